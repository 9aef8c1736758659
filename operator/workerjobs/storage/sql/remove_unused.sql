-- Forget workers that vanished a day ago, and keys that no unfinished row has and nobody gave a limit.
with gone as (
    delete from "workerJobWorkers" where "seenAt" < now() - interval '1 day'
)
delete from "workerJobLimits" as unused
using (
    select candidate.kind, candidate.name from "workerJobLimits" as candidate
    where candidate.kind = 'key' and candidate.concurrency is null and candidate."rateLimit" is null
        and ("nextStart" is null or "nextStart" < now())
        and not exists (
            select from "workerJobs" as j
            where j.finished is null and j."concurrencyKey" is not null and j."concurrencyKey" = candidate.name
        )
    for update skip locked
) as candidate
where unused.kind = candidate.kind and unused.name = candidate.name
