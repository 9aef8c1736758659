-- Cancel pending rows and ask running ones to stop. The rows are locked first: whether one is running is decided by
-- what it is when the lock is held, not by what it was when the statement began.
with target as (
    select id, started is null as is_pending
    from "workerJobs"
    where id = any(%(ids)s) and finished is null
    order by id
    for update
)
update "workerJobs" as j
set "cancelRequested" = true, "updatedAt" = now(),
    "removeAt" = coalesce(j."removeAt", workerjobs.remove_at(j.due, j."removeDelay")),
    finished = case when target.is_pending then now() end,
    success = case when target.is_pending then false end,
    result = case when target.is_pending then jsonb_build_object('error', %(reason)s::text) else j.result end
from target
where j.id = target.id
returning {job_columns}
