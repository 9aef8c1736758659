-- Move waiting rows of built-in jobs to given pools; with a lease, only those that no live worker of their pool runs, to
-- where one does.
with given as (
    select * from unnest(
        %(cron_keys)s::text[], %(cluster_ids)s::text[], %(uids)s::text[], %(pools)s::text[]
    ) as job (cron_key, cluster_id, uid, pool)
),
own (id, pool) as (
    select job.id, given.pool from given
    join "workerJobs" as job on job."cronKey" = given.cron_key
    union
    select job.id, given.pool from given
    join "workerJobs" as job on job."clusterId" = given.cluster_id and job."resourceUid" = given.uid
),
live as (
    select worker.pool, worker.types from "workerJobWorkers" as worker
    where worker."seenAt" > now() - %(lease)s::interval
)
update "workerJobs" as job
set pool = own.pool
from own
where job.id = own.id and job.started is null and job.finished is null and job.pool <> own.pool
    and (
        %(lease)s::interval is null
        or (
            not exists (select from live where live.pool = job.pool and job.type = any(live.types))
            and exists (select from live where live.pool = own.pool and job.type = any(live.types))
        )
    )
returning job.id
