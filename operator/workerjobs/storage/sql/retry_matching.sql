-- The oldest that a filter finds; none of them is removed before it is copied.
with locked as materialized (
    select j.id
    from "workerJobs" as j
    where j.id in (select near.id from {retriable} as near order by near.id limit %(limit)s)
    order by j.id
    for key share of j
)
select j."rescheduledFromJob" as old, j.id as new
from workerjobs.retry_jobs(array(select locked.id from locked)) as j
order by j.id
