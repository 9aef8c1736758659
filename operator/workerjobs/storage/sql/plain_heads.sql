-- The due rows that a claim without limits would take first, without locking them.
with recursive {runnable_levels}
select due_job.id, level.priority, due_job.due
from level
cross join lateral (
    select pending.due, pending.id
    from "workerJobs" as pending
    where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
        and pending.pool = %(pool)s and pending.type = level.type and pending.priority = level.priority
        and {in_namespaces}
        and pending.due <= now()
    order by pending.due, pending.id
    limit %(limit)s
) as due_job
order by level.priority desc, due_job.due, due_job.id
limit %(limit)s
