-- The oldest that a filter finds. What has changed until its row is locked is looked at again, so that a job that has
-- just started is not stopped where only pending ones were meant.
with locked as materialized (
    select j.id
    from "workerJobs" as j
    where j.id in (select near.id from {cancellable} as near order by near.id limit %(limit)s)
        and j.finished is null and {job_filters}
    order by j.id
    for update of j
)
select j.id, j.finished is not null as is_final
from workerjobs.cancel_jobs(array(select locked.id from locked), %(reason)s) as j
order by j.id
