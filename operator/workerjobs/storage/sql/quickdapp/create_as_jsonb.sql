-- jsonb refuses some of what json holds (NUL characters, halves of surrogate pairs, huge numbers): that becomes a string.
create function workerjobs.as_jsonb(value text) returns jsonb
language plpgsql as $$
begin
    return value::jsonb;
exception when others then
    return to_jsonb(value);
end $$
