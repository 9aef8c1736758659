-- Give back rows that an owner leased and does not know of.
update "workerJobs" as j
set started = null, "leaseOwner" = null, "leaseDeadline" = null, "fencingToken" = null, "updatedAt" = now()
where j."leaseOwner" = %(owner)s and j.started is not null and j.finished is null
    and j."fencingToken" <> all(%(tokens)s::bigint[])
returning j.id
