-- Pools with rows that have been due for long, and what workers run of them. Due moments may be infinite.
with waiting as (
    select pool, count(*) as late, greatest(min(due), now() - interval '100 years') as oldest
    from "workerJobs"
    where started is null and finished is null and due < now() - %(late)s
    group by pool
),
running as (
    select pool, count(*) as running
    from "workerJobs"
    where started is not null and finished is null and "leaseDeadline" > now()
    group by pool
)
select waiting.pool as name, waiting.late, now() - waiting.oldest as waited, coalesce(running.running, 0) as running
from waiting
left join running using (pool)
order by waited desc, name
