-- Lock the lines of keys and types; those that another claim holds are left out.
select kind, name, concurrency, "rateLimit" as rate_limit, "ratePeriod" as rate_period_ms, "nextStart" as next_start,
    now() as now
from "workerJobLimits"
where (kind = 'key' and name = any(%(keys)s::text[])) or (kind = 'type' and name = any(%(types)s::text[]))
order by kind, name
for update skip locked
