-- What holds for each resource, with the ends that were noted since the last look added to its counts.
with ended as (
    delete from "workerJobEnds" as e
    where e."clusterId" = %(cluster_id)s and e."resourceUid" = any(%(uids)s)
    returning e."resourceUid" as uid, e.state, e.attempt, e.rescues
),
counted as (
    insert into "workerJobResourceStates" as state
        ("clusterId", "resourceUid", succeeded, failed, cancelled, retried, lost)
    select %(cluster_id)s, uid, count(*) filter (where ended.state = 'succeeded'),
        count(*) filter (where ended.state = 'failed'), count(*) filter (where ended.state = 'cancelled'),
        count(*) filter (where ended.attempt > 1), sum(ended.rescues)
    from ended
    group by uid
    order by uid
    on conflict ("clusterId", "resourceUid") do update
    set succeeded = state.succeeded + excluded.succeeded, failed = state.failed + excluded.failed,
        cancelled = state.cancelled + excluded.cancelled, retried = state.retried + excluded.retried,
        lost = state.lost + excluded.lost
    returning state.*
),
current as (
    select * from counted
    union all
    select state.*
    from "workerJobResourceStates" as state
    where state."clusterId" = %(cluster_id)s and state."resourceUid" = any(%(uids)s)
        and state."resourceUid" not in (select "resourceUid" from counted)
)
select
    resource.uid,
    array(
        select r."runKey" from "workerJobResources" as r
        where r."clusterId" = %(cluster_id)s and r."resourceUid" = resource.uid
        order by r."runKey"
    ) as run_keys,
    coalesce(current."isSuspended", false) as is_suspended,
    current."historyLimit" as history_limit,
    current."historyLimit" is not null and exists (
        select from "workerJobs" as j
        where j."clusterId" = %(cluster_id)s and j."resourceUid" = resource.uid and j.finished is not null
            and not j.persistent
        offset current."historyLimit"
    ) as has_surplus,
    coalesce(current.succeeded, 0) as succeeded, coalesce(current.failed, 0) as failed,
    coalesce(current.cancelled, 0) as cancelled, coalesce(current.retried, 0) as retried,
    coalesce(current.lost, 0) as lost, newest.last_end, newest.used_ticks
from unnest(%(uids)s::text[]) as resource (uid)
left join current on current."resourceUid" = resource.uid
cross join lateral (
    select max(ended_row.finished) as last_end,
        -- And those of a moment ago, as whoever asks read the clock before.
        coalesce(array_agg(ended_row.tick) filter (where ended_row.tick > now() - interval '1 minute'), '{}') as used_ticks
    from (
        select j.finished, j.tick from "workerJobs" as j
        where j."clusterId" = %(cluster_id)s and j."resourceUid" = resource.uid and j.finished is not null
        order by j.id desc
        limit 20
    ) as ended_row
) as newest
