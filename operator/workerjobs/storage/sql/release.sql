-- Give rows back unfinished; they are pending for everyone as of now.
-- By id alone: see settle.sql.
with held as (
    select j.id, j.type, j.started, j."concurrencyKey", j."rateLimit", j."ratePeriod", lease.is_begun
    from unnest(%(ids)s::bigint[], %(tokens)s::bigint[], %(begun)s::boolean[]) as lease (id, token, is_begun)
    join "workerJobs" as j on j.id = lease.id
    where j."fencingToken" = lease.token and num_nonnulls(j.started) <> 0 and num_nulls(j.finished) <> 0
    order by j.id
    for update of j
),
{given_back_starts},
released as (
    update "workerJobs" as j
    set started = null, "leaseOwner" = null, "leaseDeadline" = null, "fencingToken" = null, progress = null,
        "updatedAt" = now()
    from held
    where j.id = held.id
    returning j.id
)
select id from released
