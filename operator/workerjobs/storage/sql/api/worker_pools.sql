-- WorkerPools as their operators see them.
select uid, namespace, name, pool, desired, replicas, ready, reason, message
from "workerPools"
order by namespace, name, uid
