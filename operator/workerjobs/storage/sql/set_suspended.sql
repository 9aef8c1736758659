insert into "workerJobResourceStates" ("clusterId", "resourceUid", "isSuspended")
select %(cluster_id)s, uid, %(is_suspended)s from unnest(%(uids)s::text[]) as resource (uid) order by uid
on conflict ("clusterId", "resourceUid") do update set "isSuspended" = excluded."isSuspended"
