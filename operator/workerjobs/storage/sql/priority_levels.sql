/* The priorities that a pool's pending rows have, found by jumping through the index. */
level (priority) as (
    (
        select priority from "workerJobs"
        where started is null and finished is null and pool = %(pool)s
        order by priority desc
        limit 1
    )
    union all
    select (
        select lower_level.priority from "workerJobs" as lower_level
        where lower_level.started is null and lower_level.finished is null and lower_level.pool = %(pool)s
            and lower_level.priority < level.priority
        order by lower_level.priority desc
        limit 1
    )
    from level
    where level.priority is not null
)
