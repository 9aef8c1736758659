-- What was set for types and keys, with the jobs that run under it now.
select own.kind, own.name, own.concurrency, own."rateLimit" as rate_limit, own."ratePeriod" as rate_period_ms,
    case own.kind
        when 'key' then (
            select count(*) from "workerJobs" as j
            where j.started is not null and j.finished is null and j."concurrencyKey" = own.name and j."leaseDeadline" > {live_since}
        )
        else (
            select count(*) from "workerJobs" as j
            where j.started is not null and j.finished is null and j.type = own.name
                and j."leaseDeadline" > {live_since}
        )
    end as running
from "workerJobLimits" as own
where own.kind = 'type' or own.concurrency is not null or own."rateLimit" is not null
order by own.kind, own.name
