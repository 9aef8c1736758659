-- Note that these resources got their first row; returns those that had none.
insert into "workerJobResources" ("clusterId", "resourceUid", "runKey", namespace, name)
select cluster_id, uid, 'initial', namespace, name
from unnest(%(cluster_ids)s::text[], %(uids)s::text[], %(namespaces)s::text[], %(names)s::text[])
    as resource (cluster_id, uid, namespace, name)
on conflict do nothing
returning "clusterId" as cluster_id, "resourceUid" as uid
