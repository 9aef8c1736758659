-- Drop the notes on resources that are long gone and have no rows left: their uids never come again.
delete from "workerJobResources" as r
where r."clusterId" = %(cluster_id)s and r."deletedAt" < now() - %(after)s
    and not exists (
        select 1 from "workerJobs" as j where j."clusterId" = r."clusterId" and j."resourceUid" = r."resourceUid"
    )
returning r."resourceUid" as uid
