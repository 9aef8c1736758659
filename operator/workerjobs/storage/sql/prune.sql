-- Remove finished rows past their time. The newest finished row of a live resource stays: its status is read from it.
with removable as (
    select old.id
    from "workerJobs" as old
    where old.finished is not null and not old.persistent and old."removeAt" <= now()
        and not (
            old."resourceUid" is not null
            and exists (
                select 1 from "workerJobResources" as r
                where r."clusterId" = old."clusterId" and r."resourceUid" = old."resourceUid" and r."deletedAt" is null
            )
            and not exists (
                select 1 from "workerJobs" as newer
                where newer."clusterId" = old."clusterId" and newer."resourceUid" = old."resourceUid"
                    and newer.id > old.id and newer.finished is not null
            )
        )
    order by old."removeAt", old.id
    limit %(limit)s
    for update skip locked
)
delete from "workerJobs" as j using removable where j.id = removable.id returning j.id
