-- The unfinished rows of each pool and type: waiting, due later, running, and since when the oldest one waits. Pools,
-- types and priorities are found by jumping through the indexes, and rows counted up to %(most)s, so that finished rows
-- cost nothing and very many pending ones little.
with recursive plain (pool, type, priority) as (
    (
        select j.pool, j.type, j.priority from "workerJobs" as j
        where j.started is null and j.finished is null and j."concurrencyKey" is null
        order by j.pool, j.type, j.priority desc
        limit 1
    )
    union all
    select following.*
    from plain
    cross join lateral (
        select coalesce(lower.pool, next_type.pool, next_pool.pool),
            coalesce(lower.type, next_type.type, next_pool.type),
            coalesce(lower.priority, next_type.priority, next_pool.priority)
        from (select) as here
        left join lateral (
            select j.pool, j.type, j.priority from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is null
                and j.pool = plain.pool and j.type = plain.type and j.priority < plain.priority
            order by j.priority desc
            limit 1
        ) as lower on true
        left join lateral (
            select j.pool, j.type, j.priority from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is null
                and j.pool = plain.pool and j.type > plain.type and lower.pool is null
            order by j.type, j.priority desc
            limit 1
        ) as next_type on true
        left join lateral (
            select j.pool, j.type, j.priority from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is null
                and j.pool > plain.pool and lower.pool is null and next_type.pool is null
            order by j.pool, j.type, j.priority desc
            limit 1
        ) as next_pool on true
    ) as following (pool, type, priority)
    where following.pool is not null
),
keyed (pool, type) as (
    (
        select j.pool, j.type from "workerJobs" as j
        where j.started is null and j.finished is null and j."concurrencyKey" is not null
        order by j.pool, j.type
        limit 1
    )
    union all
    select following.*
    from keyed
    cross join lateral (
        select coalesce(next_type.pool, next_pool.pool), coalesce(next_type.type, next_pool.type)
        from (select) as here
        left join lateral (
            select j.pool, j.type from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is not null
                and j.pool = keyed.pool and j.type > keyed.type
            order by j.type
            limit 1
        ) as next_type on true
        left join lateral (
            select j.pool, j.type from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is not null
                and j.pool > keyed.pool and next_type.pool is null
            order by j.pool, j.type
            limit 1
        ) as next_pool on true
    ) as following (pool, type)
    where following.pool is not null
),
counted (pool, type, waiting, later, running, oldest) as (
    select plain.pool, plain.type, due.count, later.count, 0, due.oldest
    from plain
    cross join lateral (
        select count(*) as count, min(near.due) as oldest
        from (
            select j.due from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is null
                and j.pool = plain.pool and j.type = plain.type and j.priority = plain.priority and j.due <= now()
            order by j.due
            limit %(most)s
        ) as near
    ) as due
    cross join lateral (
        select count(*) as count
        from (
            select from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is null
                and j.pool = plain.pool and j.type = plain.type and j.priority = plain.priority and j.due > now()
            limit %(most)s
        ) as far
    ) as later
    union all
    select keyed.pool, keyed.type, seen.due, seen.later, 0, seen.oldest
    from keyed
    cross join lateral (
        select count(*) filter (where near.due <= now()) as due, count(*) filter (where near.due > now()) as later,
            min(near.due) filter (where near.due <= now()) as oldest
        from (
            select j.due from "workerJobs" as j
            where j.started is null and j.finished is null and j."concurrencyKey" is not null
                and j.pool = keyed.pool and j.type = keyed.type
            limit %(most)s
        ) as near
    ) as seen
    union all
    select j.pool, j.type, 0, 0, count(*), null
    from "workerJobs" as j
    where j.started is not null and j.finished is null
    group by j.pool, j.type
)
select counted.pool, counted.type, least(sum(counted.waiting), %(most)s)::integer as waiting,
    least(sum(counted.later), %(most)s)::integer as later, sum(counted.running)::integer as running,
    -- Not by greatest alone, for which null is no value.
    case when min(counted.oldest) is not null then
        extract(epoch from greatest(now() - min(counted.oldest), interval '0'))::double precision
    end as oldest_seconds
from counted
group by counted.pool, counted.type
order by counted.pool, counted.type
