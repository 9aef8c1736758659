-- Store how runs ended that no row follows.
with settled as (
    {settled_rows}
    returning j.id, j.type
),
freed as (
    {freed_types}
)
select settled.id from settled cross join (select count(*) from freed) as told
