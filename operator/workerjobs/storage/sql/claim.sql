-- Lease due jobs: highest priority first, then due, then id. The priorities in use are found by jumping through the
-- index, and each is read only as far as its rows are due: rows of a high priority that are due tomorrow cost nothing.
with recursive {priority_levels},
candidate as (
    select due_job.id
    from level
    cross join lateral (
        select pending.id, pending.priority, pending.due
        from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending.pool = %(pool)s
            and pending.priority = level.priority and pending.due <= coalesce(%(now)s::timestamptz, now())
        order by pending.due, pending.id
        limit %(limit)s
        for update skip locked
    ) as due_job
    order by due_job.priority desc, due_job.due, due_job.id
    limit %(limit)s
)
update "workerJobs" as j
set started = now(), "updatedAt" = now(), "leaseOwner" = %(owner)s, "leaseDeadline" = now() + %(lease)s,
    "fencingToken" = nextval('workerjobs.fencing_token'), progress = null
from candidate
where j.id = candidate.id
returning {job_columns}
