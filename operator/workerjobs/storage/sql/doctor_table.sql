select coalesce(stat.n_live_tup, 0) as live_rows, coalesce(stat.n_dead_tup, 0) as dead_rows,
    greatest(stat.last_vacuum, stat.last_autovacuum) as last_vacuum, pg_table_size(class.oid) as bytes,
    age(class.relfrozenxid) as frozen_age,
    not coalesce('autovacuum_enabled=false' = any(class.reloptions), false) as is_vacuumed,
    (
        -- With the row's header and its place in the page.
        select 28 + sum((1 - width.null_frac) * width.avg_width)::double precision
        from pg_stats as width
        where width.schemaname = namespace.nspname and width.tablename = class.relname
    ) as row_bytes
from pg_class as class
join pg_namespace as namespace on namespace.oid = class.relnamespace
left join pg_stat_all_tables as stat on stat.relid = class.oid
where class.oid = '"workerJobs"'::regclass
