-- Keep what an operator says of its WorkerPools; those of the namespaces that it watches, and does not name any more, are
-- forgotten. Another operator of the same cluster may watch others.
with forgotten as (
    delete from "workerPools"
    where "clusterId" = %(cluster_id)s and uid <> all(%(uids)s::text[])
        and (cardinality(%(namespaces)s::text[]) = 0 or namespace = any(%(namespaces)s))
)
insert into "workerPools" (uid, "clusterId", namespace, name, pool, desired, replicas, ready, reason, message)
select shown.uid, %(cluster_id)s, shown.namespace, shown.name, shown.pool, shown.desired, shown.replicas, shown.ready,
    shown.reason, shown.message
from json_to_recordset(%(shown)s) as shown (
    uid text, namespace text, name text, pool text, desired integer, replicas integer, ready integer, reason text,
    message text
)
on conflict (uid) do update
set "clusterId" = excluded."clusterId", pool = excluded.pool, desired = excluded.desired, replicas = excluded.replicas,
    ready = excluded.ready, reason = excluded.reason, message = excluded.message, "updatedAt" = now()
