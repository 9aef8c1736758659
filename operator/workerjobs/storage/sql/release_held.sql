-- Let rows go on that were held back. The row that continues a cron line gets the line's next tick where its own passed
-- meanwhile; others that are overdue run at once.
with held as (
    select
        j.id,
        case
            when j."cronKey" is not null and j."heldDue" <= now() and not exists (
                select from "workerJobs" as later
                where later."cronKey" = j."cronKey" and later.tick > j.tick and later.finished is null
            )
                then resumed.next_tick
        end as next_tick
    from unnest(%(uids)s::text[], %(ticks)s::timestamptz[]) as resumed (uid, next_tick)
    join "workerJobs" as j on j."clusterId" = %(cluster_id)s and j."resourceUid" = resumed.uid
    where j.started is null and j.finished is null and j."heldDue" is not null
        and not exists (
            select from "workerJobPauses" as pause where pause.kind = 'cron' and pause.name = j."cronKey"
        )
    order by j.id
    for update of j
)
update "workerJobs" as j
set due = coalesce(held.next_tick, j."heldDue"), tick = coalesce(held.next_tick, j.tick), "heldDue" = null,
    "removeAt" = workerjobs.remove_at(coalesce(held.next_tick, j."heldDue"), j."removeDelay"), "updatedAt" = now()
from held
where j.id = held.id
