-- Give back rows that an owner leased and does not know of: it has begun none of them.
with held as (
    select j.id, j.type, j.started, j."concurrencyKey", j."rateLimit", j."ratePeriod", false as is_begun
    from "workerJobs" as j
    where j."leaseOwner" = %(owner)s and j.started is not null and j.finished is null
        and j."fencingToken" <> all(%(tokens)s::bigint[])
    order by j.id
    for update of j
),
{given_back_starts},
released as (
    update "workerJobs" as j
    set started = null, "leaseOwner" = null, "leaseDeadline" = null, "fencingToken" = null, "updatedAt" = now()
    from held
    where j.id = held.id
    returning j.id
)
select id from released
