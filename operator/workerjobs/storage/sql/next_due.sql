-- The earliest pending row that may be claimed without a lock of its own, found by one look per type and priority;
-- seconds from now, 0 where it is due, at most a day.
with recursive {runnable_levels}
select case when min(earliest.due) is not null then workerjobs.seconds_until(min(earliest.due)) end as seconds
from level
cross join lateral (
    select pending.due
    from "workerJobs" as pending
    where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
        and pending.pool = %(pool)s and pending.type = level.type and pending.priority = level.priority
        and {in_namespaces}
    order by pending.due
    limit 1
) as earliest
