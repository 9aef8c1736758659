-- What the account lacks on WorkerJobs' tables and on the functions' schema, from the catalogs alone.
select class.relname as name, array(
        select privilege
        from unnest(array['select', 'insert', 'update', 'delete']) as privilege
        where not has_table_privilege(class.oid, privilege)
    ) as missing
from pg_class as class
where class.oid in (to_regclass('"workerJobs"'), to_regclass('"workerJobResources"'))
union all
select 'workerjobs.fencing_token', array['usage']
from pg_class as class
join pg_namespace as namespace on namespace.oid = class.relnamespace
where namespace.nspname = 'workerjobs' and class.relname = 'fencing_token'
    and not has_sequence_privilege(class.oid, 'usage')
union all
select 'schema workerjobs', array['usage']
from pg_namespace as namespace
where namespace.nspname = 'workerjobs' and not has_schema_privilege(namespace.oid, 'usage')
order by name
