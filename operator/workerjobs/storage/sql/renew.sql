-- Prolong leases by their tokens, also past their deadline while nobody took them: neither the row nor, where jobs of its
-- key or type may run only so many at once, its permit. updatedAt stays: a renewal is no news. By id alone: see settle.sql.
update "workerJobs" as j
set "leaseDeadline" = now() + %(lease)s
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) as held (id, token)
where j.id = held.id and j."fencingToken" = held.token and num_nonnulls(j.started) <> 0
    and num_nulls(j.finished) <> 0
    and not (
        j."concurrencyKey" is not null and j."leaseDeadline" < now()
        and (j."concurrencyLimit" is not null or exists (
            select from "workerJobLimits" as own
            where own.kind = 'key' and own.name = j."concurrencyKey" and own.concurrency is not null
        ))
        and exists (
            select from "workerJobs" as other
            where other."concurrencyKey" = j."concurrencyKey" and other.started is not null and other.finished is null
                and other."leaseDeadline" > now() and other.started > j."leaseDeadline"
        )
    )
    and not (
        j."leaseDeadline" < now()
        and exists (
            select from "workerJobLimits" as own
            where own.kind = 'type' and own.name = j.type and own.concurrency is not null
        )
        and exists (
            select from "workerJobs" as other
            where other.type = j.type and other.started is not null and other.finished is null
                and other."leaseDeadline" > now() and other.started > j."leaseDeadline"
        )
    )
returning j.id, j."cancelRequested" as cancel_requested
