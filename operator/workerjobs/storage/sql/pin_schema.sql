-- Create in one schema, whatever the search path makes of it: the default path begins with "$user", so for an account
-- named workerjobs the functions' schema of that name would otherwise take the tables of later migrations.
select set_config('search_path', quote_ident(coalesce(
    (
        select namespace.nspname
        from pg_class as class
        join pg_namespace as namespace on namespace.oid = class.relnamespace
        where class.oid = to_regclass('"workerJobsMigrations"')
    ),
    nullif(current_schema(), 'workerjobs'),
    'public'
)), true)
