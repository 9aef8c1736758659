-- Take rows from owners whose lease ran out, and rows that run without a lease for half an hour (other programs' rows).
-- Most become pending again; those lost too often, or to be cancelled, are leased to the rescuer, who settles them.
-- Nothing is taken before the server has been up for a whole lease: after an outage, owners get that long to renew. A
-- statement that was held up on its way, by a network or a pooler that waits for the server, arrives together with
-- their renewals and does nothing.
with lost as (
    select id, rescues + 1 >= %(max_rescues)s or "cancelRequested" as is_taken
    from "workerJobs"
    where started is not null and finished is null
        and now() - pg_postmaster_start_time() > %(lease)s
        and now() - coalesce(%(asked)s::timestamptz, now()) < %(lease)s / 3
        and ("leaseDeadline" < now() or ("leaseDeadline" is null and started < now() - interval '30 minutes'))
    order by "leaseDeadline", id
    limit %(limit)s
    for update skip locked
)
update "workerJobs" as j
set rescues = j.rescues + 1, "updatedAt" = now(),
    -- How is known only where the operator ended the lease.
    "lostReason" = case when j."leaseOwner" = 'lost' then j."lostReason" else null end,
    started = case when lost.is_taken then j.started end,
    progress = case when lost.is_taken then j.progress end,
    "leaseOwner" = case when lost.is_taken then %(owner)s end,
    "leaseDeadline" = case when lost.is_taken then now() + %(lease)s end,
    "fencingToken" = case when lost.is_taken then nextval('workerjobs.fencing_token') end
from lost
where j.id = lost.id
returning {job_columns}
