-- The unfinished jobs that pools' workers could run, by type: how many wait, soon will, and run, and how long runs of the
-- type take. Types and priorities are found by jumping through the indexes and each counted up to %(most)s, so that
-- neither finished rows nor those due much later cost anything. Durations are those of the newest runs near the rows that
-- run now: behind a long backlog the newest rows have not run.
with recursive
asked (number, pool, until, namespaces) as (
    select given.number, given.pool, now() + given.ahead, string_to_array(nullif(given.namespaces, ''), ',')
    from unnest(%(pools)s::text[], %(ahead)s::interval[], %(namespaces)s::text[]) with ordinality
        as given (pool, ahead, namespaces, number)
),
-- A paused pool's jobs wait for nobody; those that run are counted all the same.
taken (number, pool) as (
    select asked.number, asked.pool from asked
    where not exists (select from "workerJobPauses" as pause where pause.kind = 'pool' and pause.name = asked.pool)
),
plain_type (number, pool, type) as (
    select taken.number, taken.pool, (
        select first.type from "workerJobs" as first
        where first.started is null and first.finished is null and first."concurrencyKey" is null
            and first.pool = taken.pool
        order by first.type
        limit 1
    )
    from taken
    union all
    select plain_type.number, plain_type.pool, (
        select following.type from "workerJobs" as following
        where following.started is null and following.finished is null and following."concurrencyKey" is null
            and following.pool = plain_type.pool and following.type > plain_type.type
        order by following.type
        limit 1
    )
    from plain_type
    where plain_type.type is not null
),
keyed_type (number, pool, type) as (
    select taken.number, taken.pool, (
        select first.type from "workerJobs" as first
        where first.started is null and first.finished is null and first."concurrencyKey" is not null
            and first.pool = taken.pool
        order by first.type
        limit 1
    )
    from taken
    union all
    select keyed_type.number, keyed_type.pool, (
        select following.type from "workerJobs" as following
        where following.started is null and following.finished is null and following."concurrencyKey" is not null
            and following.pool = keyed_type.pool and following.type > keyed_type.type
        order by following.type
        limit 1
    )
    from keyed_type
    where keyed_type.type is not null
),
level (number, pool, type, priority) as (
    select plain_type.number, plain_type.pool, plain_type.type, (
        select highest.priority from "workerJobs" as highest
        where highest.started is null and highest.finished is null and highest."concurrencyKey" is null
            and highest.pool = plain_type.pool and highest.type = plain_type.type
        order by highest.priority desc
        limit 1
    )
    from plain_type
    where plain_type.type is not null
    union all
    select level.number, level.pool, level.type, (
        select lower.priority from "workerJobs" as lower
        where lower.started is null and lower.finished is null and lower."concurrencyKey" is null
            and lower.pool = level.pool and lower.type = level.type and lower.priority < level.priority
        order by lower.priority desc
        limit 1
    )
    from level
    where level.priority is not null
),
counted (number, type, due, due_soon, running) as (
    select level.number, level.type, waiting.due, waiting.due_soon, 0
    from level
    join asked on asked.number = level.number
    cross join lateral (
        select count(*) filter (where near.due <= now()) as due, count(*) filter (where near.due > now()) as due_soon
        from (
            select pending.due from "workerJobs" as pending
            where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
                and pending.pool = level.pool and pending.type = level.type and pending.priority = level.priority
                and pending.due <= asked.until
                and (asked.namespaces is null or pending.namespace = any(asked.namespaces))
            order by pending.due
            limit %(most)s
        ) as near
    ) as waiting
    where level.priority is not null
    union all
    select keyed_type.number, keyed_type.type, waiting.due, waiting.due_soon, 0
    from keyed_type
    join asked on asked.number = keyed_type.number
    cross join lateral (
        -- Ordered by their keys, so that those due later are among them: the first of all are looked at.
        select count(*) filter (where near.due <= now()) as due,
            count(*) filter (where near.due > now() and near.due <= asked.until) as due_soon
        from (
            select pending.due from "workerJobs" as pending
            where pending.started is null and pending.finished is null and pending."concurrencyKey" is not null
                and pending.pool = keyed_type.pool and pending.type = keyed_type.type
                and (asked.namespaces is null or pending.namespace = any(asked.namespaces))
            limit %(most)s
        ) as near
    ) as waiting
    where keyed_type.type is not null
    union all
    select asked.number, j.type, 0, 0, count(*)
    from asked
    join "workerJobs" as j on j.pool = asked.pool
    where j.started is not null and j.finished is null
        and (asked.namespaces is null or j.namespace = any(asked.namespaces))
    group by asked.number, j.type
),
running (id, type, elapsed) as (
    select j.id, j.type, now() - j.started from "workerJobs" as j
    where j.started is not null and j.finished is null and j.pool = any(%(pools)s::text[])
),
recent (type, seconds) as (
    select newest.type, avg(extract(epoch from newest.finished - newest.started))
    from (
        select run.type, run.started, run.finished from "workerJobs" as run
        where run.id <= coalesce((select max(running.id) from running), (
            select newest.id from "workerJobs" as newest order by newest.id desc limit 1
        ))
        order by run.id desc
        limit %(sample)s
    ) as newest
    where newest.started is not null and newest.finished is not null
    group by newest.type
)
select counted.number, counted.type, least(sum(counted.due), %(most)s)::integer as due,
    least(sum(counted.due_soon), %(most)s)::integer as due_soon, sum(counted.running)::integer as running,
    coalesce(
        (select recent.seconds from recent where recent.type = counted.type),
        (select avg(extract(epoch from running.elapsed)) from running where running.type = counted.type)
    )::double precision as mean_seconds
from counted
where not exists (select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = counted.type)
    or counted.running > 0
group by counted.number, counted.type
having sum(counted.due) + sum(counted.due_soon) + sum(counted.running) > 0
order by counted.number, counted.type
