-- Remove finished rows beyond what their resources keep, a good many of each at a time.
with surplus as (
    select old.id
    from "workerJobResourceStates" as state
    cross join lateral (
        select j.id
        from "workerJobs" as j
        where j."clusterId" = state."clusterId" and j."resourceUid" = state."resourceUid" and j.finished is not null
            and not j.persistent
        order by j.id desc
        offset state."historyLimit"
        limit 1000
    ) as old
    where state."clusterId" = %(cluster_id)s and state."resourceUid" = any(%(uids)s)
        and state."historyLimit" is not null
),
unlogged as (
    delete from "workerJobLogs" as line using surplus where line."jobId" = surplus.id
)
delete from "workerJobs" as j using surplus where j.id = surplus.id
