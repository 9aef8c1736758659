-- The earliest pending row of a pool, found by one look per priority in use; seconds from now, 0 where it is due, at most
-- a day.
with recursive level (priority) as (
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
select case when min(earliest.due) is not null then workerjobs.seconds_until(min(earliest.due)) end as seconds
from level
cross join lateral (
    select pending.due
    from "workerJobs" as pending
    where pending.started is null and pending.finished is null and pending.pool = %(pool)s
        and pending.priority = level.priority
    order by pending.due
    limit 1
) as earliest
