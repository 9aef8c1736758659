-- Change a pending row; one that a worker claims meanwhile stays as it was. What a resource declares is its own.
with pending as (
    select j.id, case when %(is_now)s then now() else coalesce(%(due)s::timestamptz, j.due) end as new_due
    from "workerJobs" as j
    where j.id = %(id)s and j.started is null and j.finished is null and j."resourceUid" is null
    for update of j
)
update "workerJobs" as j
set due = pending.new_due, priority = coalesce(%(priority)s, j.priority), pool = coalesce(%(pool)s, j.pool),
    "removeAt" = case when j."removeAt" is not null then workerjobs.remove_at(pending.new_due, j."removeDelay") end,
    "updatedAt" = now()
from pending
where j.id = pending.id
returning {job_columns}
