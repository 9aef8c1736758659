select id from "workerJobs"
where "clusterId" = %(cluster_id)s and "resourceUid" = any(%(uids)s) and finished is null
order by id
