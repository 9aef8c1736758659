-- Pools with rows that have been due for long, and who is there for them. Due moments may be infinite.
with waiting as (
    select job.pool, count(*) as late, greatest(min(job.due), now() - interval '100 years') as oldest
    from "workerJobs" as job
    where job.started is null and job.finished is null and job.due < now() - %(late)s
        and not exists (
            select from "workerJobPauses" as pause
            where (pause.kind = 'pool' and pause.name = job.pool) or (pause.kind = 'type' and pause.name = job.type)
        )
    group by job.pool
)
select waiting.pool as name, waiting.late, now() - waiting.oldest as waited, (
    select count(*) from "workerJobWorkers" as worker
    where worker.pool = waiting.pool and not worker."isDraining" and worker."seenAt" > now() - %(silence)s
) as workers
from waiting
order by waited desc, name
