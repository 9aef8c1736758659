-- Let the rows of a cron line go on that were held back, unless their WorkerJob is suspended; a line whose tick passed
-- meanwhile gets its next one.
with held as (
    select j.id, case when j."heldDue" <= now() then %(next_tick)s::timestamptz end as next_tick
    from "workerJobs" as j
    where j."cronSchedule" is not null and j.started is null and j.finished is null and j."heldDue" is not null
        and {cron_line} = %(key)s
        and not exists (
            select from "workerJobResourceStates" as state
            where state."clusterId" = j."clusterId" and state."resourceUid" = j."resourceUid" and state."isSuspended"
        )
    order by j.id
    for update
)
update "workerJobs" as j
set due = coalesce(held.next_tick, j."heldDue"), tick = coalesce(held.next_tick, j.tick), "heldDue" = null,
    "removeAt" = workerjobs.remove_at(coalesce(held.next_tick, j."heldDue"), j."removeDelay"), "updatedAt" = now()
from held
where j.id = held.id
returning j.id
