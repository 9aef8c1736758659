-- The columns of those tables that exist, types as people write them.
select named.name as table_name, attribute.attname as column_name,
    format_type(attribute.atttypid, null) as type
from unnest(%(tables)s::text[]) as named (name)
join pg_attribute as attribute on attribute.attrelid = to_regclass(quote_ident(named.name))
where attribute.attnum > 0 and not attribute.attisdropped
order by named.name, attribute.attnum
