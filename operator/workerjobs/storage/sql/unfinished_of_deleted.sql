-- Rows that a settlement inserted while their resource was being deleted.
select j.id
from "workerJobs" as j
join "workerJobResources" as r on r."clusterId" = j."clusterId" and r."resourceUid" = j."resourceUid"
where j."clusterId" = %(cluster_id)s and j.finished is null and not j."cancelRequested" and r."deletedAt" is not null
order by j.id
