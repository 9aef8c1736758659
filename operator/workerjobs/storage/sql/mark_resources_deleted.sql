update "workerJobResources" set "deletedAt" = now()
where "clusterId" = %(cluster_id)s and "resourceUid" = any(%(uids)s) and "deletedAt" is null
