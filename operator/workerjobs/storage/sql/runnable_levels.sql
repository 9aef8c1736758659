/* Which types may be claimed without a lock of their own, and the priorities that their pending rows have, found by jumping
   through the index: rows of other types, of paused ones and of other priorities cost nothing.
   Given no types, all that are pending count. */
pending_type (type) as (
    (
        select first.type from "workerJobs" as first
        where first.started is null and first.finished is null and first."concurrencyKey" is null
            and first.pool = %(pool)s and %(types)s::text[] is null
        order by first.type
        limit 1
    )
    union all
    select (
        select following.type from "workerJobs" as following
        where following.started is null and following.finished is null and following."concurrencyKey" is null
            and following.pool = %(pool)s and following.type > pending_type.type
        order by following.type
        limit 1
    )
    from pending_type
    where pending_type.type is not null
),
runnable (type) as (
    select named.type
    from (select unnest(%(types)s::text[]) as type union all select type from pending_type) as named
    where named.type is not null
        and not exists (
            select from "workerJobPauses" as pause where pause.kind = 'pool' and pause.name = %(pool)s
        )
        and not exists (
            select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = named.type
        )
        and not exists (
            select from "workerJobLimits" as limited where limited.kind = 'type' and limited.name = named.type
        )
),
level (type, priority) as (
    select runnable.type, (
        select highest.priority from "workerJobs" as highest
        where highest.started is null and highest.finished is null and highest."concurrencyKey" is null
            and highest.pool = %(pool)s and highest.type = runnable.type
        order by highest.priority desc
        limit 1
    )
    from runnable
    union all
    select level.type, (
        select lower.priority from "workerJobs" as lower
        where lower.started is null and lower.finished is null and lower."concurrencyKey" is null
            and lower.pool = %(pool)s and lower.type = level.type and lower.priority < level.priority
        order by lower.priority desc
        limit 1
    )
    from level
    where level.priority is not null
)
