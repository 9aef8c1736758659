-- Drop what is noted of resources that are long gone and have no rows left: their uids never come again.
with forgotten as (
    delete from "workerJobResources" as r
    where r."clusterId" = %(cluster_id)s and r."deletedAt" < now() - %(after)s
        and not exists (
            select 1 from "workerJobs" as j where j."clusterId" = r."clusterId" and j."resourceUid" = r."resourceUid"
        )
    returning r."resourceUid" as uid
),
ends as (
    delete from "workerJobEnds" as e using forgotten
    where e."clusterId" = %(cluster_id)s and e."resourceUid" = forgotten.uid
),
states as (
    delete from "workerJobResourceStates" as state using forgotten
    where state."clusterId" = %(cluster_id)s and state."resourceUid" = forgotten.uid
)
select distinct uid from forgotten
