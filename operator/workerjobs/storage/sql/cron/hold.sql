-- Hold the pending rows of a cron line back.
with pending as (
    select j.id
    from "workerJobs" as j
    where j."cronSchedule" is not null and j.started is null and j.finished is null and j.due <> 'infinity'
        and {cron_line} = %(key)s
    order by j.id
    for update
)
update "workerJobs" as j
set "heldDue" = j.due, due = 'infinity', "updatedAt" = now()
from pending
where j.id = pending.id
returning j.id
