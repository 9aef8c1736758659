-- What the account lacks on WorkerJobs' tables and on the functions' schema, from the catalogs alone.
select lacking.name, lacking.missing
from (
    select ours.number, ours.name, array(
            select privilege
            from unnest(array['select', 'insert', 'update', 'delete']) as privilege
            where not has_table_privilege(to_regclass(quote_ident(ours.name)), privilege)
        ) as missing
    from unnest(array[
            'workerJobs', 'workerJobResources', 'workerJobWorkers', 'workerJobPauses', 'workerJobLimits',
            'workerJobLeaders', 'workerJobResourceStates', 'workerJobEnds', 'workerChains', 'workerChainBlocks',
            'workerChainEffects', 'workerChainAddresses', 'workerChainDeadLetters', 'workerChainFilters',
            'workerChainFilterCursors', 'workerChainEndpoints', 'workerChainPayments', 'workerBroadcasts',
            'workerApiTokens', 'workerAudit', 'workerPools', 'workerApiAnswers', 'workerJobLogs'
        ]) with ordinality as ours (name, number)
    where to_regclass(quote_ident(ours.name)) is not null
    union all
    select 1000, 'workerjobs.fencing_token', array['usage']
    from pg_class as class
    join pg_namespace as namespace on namespace.oid = class.relnamespace
    where namespace.nspname = 'workerjobs' and class.relname = 'fencing_token'
        and not has_sequence_privilege(class.oid, 'usage')
    union all
    select 1001, 'schema workerjobs', array['usage']
    from pg_namespace as namespace
    where namespace.nspname = 'workerjobs' and not has_schema_privilege(namespace.oid, 'usage')
) as lacking (number, name, missing)
order by lacking.number
