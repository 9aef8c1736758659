-- Workers that showed themselves within a lease, with the jobs that they hold.
select worker.owner, worker.pool, worker.host, worker.pid, worker.version, worker.children, worker.types,
    worker."isDraining" as is_draining, worker."startedAt" as started, worker."seenAt" as seen, (
        select count(*) from "workerJobs" as j
        where j.started is not null and j.finished is null and j."leaseOwner" = worker.owner
    ) as running, worker.namespace, worker."podName" as pod_name, worker."podUid" as pod_uid,
    worker."drainReasons" as drain_reasons
from "workerJobWorkers" as worker
where worker."seenAt" > now() - %(lease)s
order by worker.pool, worker.host, worker.owner
