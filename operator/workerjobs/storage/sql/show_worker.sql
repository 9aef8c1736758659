-- Show that a worker lives, and what it knows; returns what it is asked to do. In a pod that is gone every worker is to
-- end, also one that its kubelet, which does not know that, has started since.
insert into "workerJobWorkers" as worker (
    owner, pool, host, pid, version, children, types, schemas, "isDraining", "startedAt", "seenAt", "clusterId",
    namespace, "podName", "podUid", "bootedAt", "revokedAt"
)
values (
    %(owner)s, %(pool)s, %(host)s, %(pid)s, %(version)s, %(children)s, %(types)s, %(schemas)s, %(is_draining)s, now(),
    now(), %(cluster_id)s, %(namespace)s, %(pod_name)s, %(pod_uid)s, %(booted)s,
    (select max(earlier."revokedAt") from "workerJobWorkers" as earlier where earlier."podUid" = %(pod_uid)s)
)
on conflict (owner) do update
set children = excluded.children, types = excluded.types, schemas = excluded.schemas,
    "isDraining" = excluded."isDraining", "seenAt" = now()
returning worker."drainReasons" as drain_reasons, worker."revokedAt" is not null as is_revoked
