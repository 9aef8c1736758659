-- Give back the rows of workers that are known to be lost, without waiting for their leases. Whoever was lost too often,
-- or is to be cancelled, is left to the workers' own rescue, which settles it with its type's settings: its lease ends
-- now, and its token with it.
with lost as (
    select j.id, worker.reason, j.rescues + 1 >= %(max_rescues)s or j."cancelRequested" as is_left
    from "workerJobs" as j
    join unnest(%(owners)s::text[], %(reasons)s::text[]) as worker (owner, reason)
        on j."leaseOwner" in (worker.owner, worker.owner || ':taken')
    where j.started is not null and j.finished is null
    order by j.id
    for update of j skip locked
)
update "workerJobs" as j
set "lostReason" = lost.reason, "updatedAt" = now(),
    rescues = case when lost.is_left then j.rescues else j.rescues + 1 end,
    started = case when lost.is_left then j.started end,
    progress = case when lost.is_left then j.progress end,
    "leaseOwner" = case when lost.is_left then 'lost' end,
    "leaseDeadline" = case when lost.is_left then now() end,
    "fencingToken" = case when lost.is_left then nextval('workerjobs.fencing_token') end
from lost
where j.id = lost.id
returning {job_columns}
