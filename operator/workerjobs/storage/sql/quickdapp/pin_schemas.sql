-- Look for QuickDapp's tables where worker_jobs is, or will be: beside "workerJobs". What is created goes there.
with own as (
    select namespace.nspname as name
    from pg_class as class
    join pg_namespace as namespace on namespace.oid = class.relnamespace
    where class.oid = to_regclass('"workerJobsMigrations"')
),
theirs as (
    select namespace.nspname as name
    from pg_class as class
    join pg_namespace as namespace on namespace.oid = class.relnamespace
    where class.oid = to_regclass('worker_jobs')
)
select set_config(
    'search_path',
    (
        select string_agg(quote_ident(schemas.name), ', ' order by schemas.place)
        from (select 1 as place, name from theirs union all select 2, name from own) as schemas
    ),
    true
)
where exists (select 1 from theirs) or exists (select 1 from own)
