-- Pending rows under a concurrencyKey, or of a type with limits, that could be among the next to start, with these limits
-- and how many jobs run under them: of each type, key and priority the first few. Keys of a type are found by jumping
-- through the index, at most so many a look, from the type and key of %(after_type)s and %(after_key)s on. Where there may
-- be more, one row without an id says where this look ended.
with recursive
known (type, is_limited, concurrency, rate_limit, rate_period_ms, next_start, running) as (
    select named.type, own.name is not null, own.concurrency, own."rateLimit", own."ratePeriod", own."nextStart",
        case when own.name is not null then (
            select count(*) from "workerJobs" as j
            where j.started is not null and j.finished is null and j."leaseDeadline" > {live_since} and j.type = own.name
        ) end
    from unnest(%(types)s::text[]) as named (type)
    left join "workerJobLimits" as own on own.kind = 'type' and own.name = named.type
    where not exists (select from "workerJobPauses" as pause where pause.kind = 'pool' and pause.name = %(pool)s)
        and not exists (select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = named.type)
),
runnable as (
    select * from known where known.concurrency is null or known.running < known.concurrency
),
-- Types that can't run now, or not here, cost one step each.
pair (type, key, number) as (
    select %(after_type)s::text, %(after_key)s::text, 0
    union all
    select following.type, following.key, pair.number + 1
    from pair
    cross join lateral (
        (
            select same.type, same."concurrencyKey" as key from "workerJobs" as same
            where same.started is null and same.finished is null and same."concurrencyKey" is not null
                and same.pool = %(pool)s and same.type = pair.type and same."concurrencyKey" > pair.key
                and pair.type in (select runnable.type from runnable)
            order by same."concurrencyKey"
            limit 1
        )
        union all
        (
            select next_type.type, next_type."concurrencyKey" from "workerJobs" as next_type
            where next_type.started is null and next_type.finished is null and next_type."concurrencyKey" is not null
                and next_type.pool = %(pool)s and next_type.type > pair.type
            order by next_type.type, next_type."concurrencyKey"
            limit 1
        )
        limit 1
    ) as following
    where pair.number < %(keys)s
),
keyed (type, key, concurrency, rate_limit, rate_period_ms, next_start, running) as (
    select pair.type, pair.key, own.concurrency, own."rateLimit", own."ratePeriod", own."nextStart", live.running
    from pair
    left join "workerJobLimits" as own on own.kind = 'key' and own.name = pair.key
    cross join lateral (
        select count(*) as running from "workerJobs" as j
        where j.started is not null and j.finished is null and j."concurrencyKey" = pair.key and j."leaseDeadline" > {live_since}
    ) as live
    where pair.number > 0 and pair.type in (select runnable.type from runnable)
        and (own.concurrency is null or live.running < own.concurrency)
),
key_level (type, key, priority) as (
    select keyed.type, keyed.key, (
        select highest.priority from "workerJobs" as highest
        where highest.started is null and highest.finished is null and highest."concurrencyKey" = keyed.key
            and highest.pool = %(pool)s and highest.type = keyed.type
        order by highest.priority desc
        limit 1
    )
    from keyed
    union all
    select key_level.type, key_level.key, (
        select lower.priority from "workerJobs" as lower
        where lower.started is null and lower.finished is null and lower."concurrencyKey" = key_level.key
            and lower.pool = %(pool)s and lower.type = key_level.type and lower.priority < key_level.priority
        order by lower.priority desc
        limit 1
    )
    from key_level
    where key_level.priority is not null
),
type_level (type, priority) as (
    select runnable.type, (
        select highest.priority from "workerJobs" as highest
        where highest.started is null and highest.finished is null and highest."concurrencyKey" is null
            and highest.pool = %(pool)s and highest.type = runnable.type
        order by highest.priority desc
        limit 1
    )
    from runnable
    where runnable.is_limited
    union all
    select type_level.type, (
        select lower.priority from "workerJobs" as lower
        where lower.started is null and lower.finished is null and lower."concurrencyKey" is null
            and lower.pool = %(pool)s and lower.type = type_level.type and lower.priority < type_level.priority
        order by lower.priority desc
        limit 1
    )
    from type_level
    where type_level.priority is not null
),
candidate as (
    select head.*, keyed.concurrency as key_concurrency, keyed.rate_limit as key_rate_limit,
        keyed.rate_period_ms as key_rate_period_ms, keyed.next_start as key_next_start, keyed.running as key_running
    from key_level
    join keyed on keyed.type = key_level.type and keyed.key = key_level.key
    cross join lateral (
        select pending.id, pending.type, pending.priority, pending.due, pending."concurrencyKey" as concurrency_key,
            pending."concurrencyLimit" as concurrency_limit, pending."rateLimit" as rate_limit,
            pending."ratePeriod" as rate_period_ms
        from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending."concurrencyKey" = key_level.key
            and pending.pool = %(pool)s and pending.type = key_level.type and pending.priority = key_level.priority
            and {in_namespaces}
        order by pending.due, pending.id
        limit %(each)s
    ) as head
    where head.concurrency_limit is null or head.concurrency_limit > keyed.running
    union all
    select head.*, null, null, null, null, null
    from type_level
    cross join lateral (
        select pending.id, pending.type, pending.priority, pending.due, null::text, null::integer, null::integer,
            null::integer
        from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
            and pending.pool = %(pool)s and pending.type = type_level.type and pending.priority = type_level.priority
            and {in_namespaces}
        order by pending.due, pending.id
        limit %(limit)s
    ) as head
    union all
    select null, last.type, null, null, last.key, null, null, null, null, null, null, null, null
    from (select pair.type, pair.key from pair where pair.number = %(keys)s) as last
)
select candidate.*, workerjobs.seconds_until(candidate.due) as seconds, runnable.is_limited as type_is_limited,
    runnable.concurrency as type_concurrency, runnable.rate_limit as type_rate_limit,
    runnable.rate_period_ms as type_rate_period_ms, runnable.next_start as type_next_start,
    runnable.running as type_running, now() as now
from candidate
left join runnable on runnable.type = candidate.type
