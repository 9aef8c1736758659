-- Pending rows under a concurrencyKey or of a type with limits that could be among the next to start, with the limits that
-- they name: for each key (or type) and priority the first few. Keys are found by jumping through the index, at most a
-- thousand a look, from the one after %(after)s on.
with recursive
known (type) as (
    select named.type
    from unnest(%(types)s::text[]) as named (type)
    where not exists (select from "workerJobPauses" as pause where pause.kind = 'pool' and pause.name = %(pool)s)
        and not exists (select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = named.type)
),
key (name, number) as (
    (
        select first."concurrencyKey", 1 from "workerJobs" as first
        where first.started is null and first.finished is null and first."concurrencyKey" is not null
            and first.pool = %(pool)s and first."concurrencyKey" > %(after)s
        order by first."concurrencyKey"
        limit 1
    )
    union all
    select (
        select following."concurrencyKey" from "workerJobs" as following
        where following.started is null and following.finished is null and following."concurrencyKey" is not null
            and following.pool = %(pool)s and following."concurrencyKey" > key.name
        order by following."concurrencyKey"
        limit 1
    ), key.number + 1
    from key
    where key.name is not null and key.number < %(keys)s
),
key_level (name, priority) as (
    select key.name, (
        select highest.priority from "workerJobs" as highest
        where highest.started is null and highest.finished is null and highest."concurrencyKey" = key.name
            and highest.pool = %(pool)s
        order by highest.priority desc
        limit 1
    )
    from key
    where key.name is not null
    union all
    select key_level.name, (
        select lower.priority from "workerJobs" as lower
        where lower.started is null and lower.finished is null and lower."concurrencyKey" = key_level.name
            and lower.pool = %(pool)s and lower.priority < key_level.priority
        order by lower.priority desc
        limit 1
    )
    from key_level
    where key_level.priority is not null
),
type_level (type, priority) as (
    select known.type, (
        select highest.priority from "workerJobs" as highest
        where highest.started is null and highest.finished is null and highest."concurrencyKey" is null
            and highest.pool = %(pool)s and highest.type = known.type
        order by highest.priority desc
        limit 1
    )
    from known
    where exists (select from "workerJobLimits" as own where own.kind = 'type' and own.name = known.type)
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
)
select candidate.*, workerjobs.seconds_until(candidate.due) as seconds
from key_level
cross join lateral (
    select pending.id, pending.type, pending.priority, pending.due, pending."concurrencyKey" as concurrency_key,
        pending."concurrencyLimit" as concurrency_limit, pending."rateLimit" as rate_limit,
        pending."ratePeriod" as rate_period_ms
    from "workerJobs" as pending
    where pending.started is null and pending.finished is null and pending."concurrencyKey" = key_level.name
        and pending.pool = %(pool)s and pending.priority = key_level.priority
        and pending.type in (select known.type from known)
    order by pending.due, pending.id
    limit %(each)s
) as candidate
union all
select candidate.*, workerjobs.seconds_until(candidate.due) as seconds
from type_level
cross join lateral (
    select pending.id, pending.type, pending.priority, pending.due, null::text as concurrency_key,
        null::integer as concurrency_limit, null::integer as rate_limit, null::integer as rate_period_ms
    from "workerJobs" as pending
    where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
        and pending.pool = %(pool)s and pending.type = type_level.type and pending.priority = type_level.priority
    order by pending.due, pending.id
    limit %(limit)s
) as candidate
