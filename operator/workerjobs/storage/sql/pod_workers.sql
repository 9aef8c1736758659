-- Workers in pods of a cluster, and those of which nobody has said yet whose they are.
select worker.owner, worker."clusterId" as cluster_id, worker.namespace, worker."podName" as pod_name,
    worker."podUid" as pod_uid, worker."bootedAt" as booted, worker."drainReasons" as drain_reasons,
    extract(epoch from now() - worker."revokedAt")::double precision as revoked_seconds,
    worker."revocationSeenAt" is not null as has_stopped, coalesce(held.running, 0) as running,
    worker."seenAt" > now() - %(lease)s as is_alive
from "workerJobWorkers" as worker
left join (
    select "leaseOwner" as owner, count(*) as running from "workerJobs"
    where started is not null and finished is null
    group by "leaseOwner"
) as held on held.owner = worker.owner
where worker."podUid" is not null and (worker."clusterId" = %(cluster_id)s or worker."clusterId" is null)
order by worker."bootedAt", worker.owner
