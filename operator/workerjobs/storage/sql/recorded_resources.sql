select distinct on ("resourceUid") namespace, name, "resourceUid" as uid
from "workerJobResources"
where "clusterId" = %(cluster_id)s and "deletedAt" is null
    and (cardinality(%(namespaces)s::text[]) = 0 or namespace = any(%(namespaces)s))
order by "resourceUid", "runKey"
