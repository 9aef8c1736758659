-- Note runs that resources ask for, with the states of those that are new; returns the runs that were not noted before.
-- The first run is noted once, and nothing of a resource that was deleted.
with asked as (
    select *
    from unnest(
        %(cluster_ids)s::text[], %(uids)s::text[], %(run_keys)s::text[], %(namespaces)s::text[], %(names)s::text[],
        %(are_suspended)s::boolean[], %(history_limits)s::integer[]
    ) as asked (cluster_id, uid, run_key, namespace, name, is_suspended, history_limit)
),
recorded as (
    insert into "workerJobResources" ("clusterId", "resourceUid", "runKey", namespace, name)
    select cluster_id, uid, run_key, namespace, name
    from asked
    where not exists (
        select from "workerJobResources" as r
        where r."clusterId" = asked.cluster_id and r."resourceUid" = asked.uid
            and (asked.run_key = 'initial' or r."deletedAt" is not null)
    )
    on conflict do nothing
    returning "clusterId" as cluster_id, "resourceUid" as uid, "runKey" as run_key
),
stated as (
    insert into "workerJobResourceStates" ("clusterId", "resourceUid", "isSuspended", "historyLimit")
    select asked.cluster_id, asked.uid, asked.is_suspended, asked.history_limit
    from asked
    join recorded using (cluster_id, uid, run_key)
    order by asked.cluster_id, asked.uid
    on conflict do nothing
)
select cluster_id, uid, run_key from recorded
