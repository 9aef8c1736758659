-- Types of pending rows that no live worker of their pool knows: once due, they fail.
select job.type, job.pool, count(*) as count
from "workerJobs" as job
where job.started is null and job.finished is null
    and not exists (
        select from "workerJobPauses" as pause
        where (pause.kind = 'pool' and pause.name = job.pool) or (pause.kind = 'type' and pause.name = job.type)
    )
    and not exists (
        select from "workerJobWorkers" as worker
        where worker.pool = job.pool and job.type = any(worker.types) and worker."seenAt" > now() - %(silence)s
    )
group by job.type, job.pool
order by job.type, job.pool
