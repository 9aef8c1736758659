-- Forget workers that vanished a day ago, broadcasts of that age, entries of the audit after 90 days, some thousands at a
-- time, lines of jobs that are gone (that others deleted, or whose line came late), and keys that no unfinished row has
-- and nobody gave a limit.
with gone as (
    delete from "workerJobWorkers" where "seenAt" < now() - interval '1 day'
),
heard as (
    delete from "workerBroadcasts" where "createdAt" < now() - interval '1 day'
),
told as (
    delete from "workerAudit" where id in (
        select old.id from "workerAudit" as old where old.at < now() - interval '90 days' order by old.at limit 10000
    )
),
logged as (
    delete from "workerJobLogs" where id in (
        select line.id
        from (select * from "workerJobLogs" as oldest order by oldest.id limit 100000) as line
        where line.at < now() - interval '1 day'
            and not exists (select from "workerJobs" as j where j.id = line."jobId")
    )
)
delete from "workerJobLimits" as unused
using (
    select candidate.kind, candidate.name from "workerJobLimits" as candidate
    where candidate.kind = 'key' and candidate.concurrency is null and candidate."rateLimit" is null
        and ("nextStart" is null or "nextStart" < now())
        and not exists (
            select from "workerJobs" as running
            where running.started is not null and running.finished is null and running."concurrencyKey" = candidate.name
        )
        and not exists (
            select from "workerJobs" as waiting
            where waiting.started is null and waiting.finished is null and waiting."leaseDeadline" is null
                and waiting."concurrencyKey" = candidate.name
        )
    for update skip locked
) as candidate
where unused.kind = candidate.kind and unused.name = candidate.name
