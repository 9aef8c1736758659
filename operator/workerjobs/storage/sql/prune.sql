-- Remove finished rows past their time. Of a live resource so many stay as its historyLimit says, and the newest one in
-- any case: its status is read from it.
with removable as (
    select old.id
    from "workerJobs" as old
    left join "workerJobResourceStates" as kept
        on kept."clusterId" = old."clusterId" and kept."resourceUid" = old."resourceUid"
    where old.finished is not null and not old.persistent and old."removeAt" <= now()
        and not (
            old."resourceUid" is not null
            and exists (
                select 1 from "workerJobResources" as r
                where r."clusterId" = old."clusterId" and r."resourceUid" = old."resourceUid" and r."deletedAt" is null
            )
            and (
                select count(*) from (
                    select from "workerJobs" as newer
                    where newer."clusterId" = old."clusterId" and newer."resourceUid" = old."resourceUid"
                        and newer.id > old.id and newer.finished is not null
                    limit coalesce(kept."historyLimit", 1)
                ) as newest
            ) < coalesce(kept."historyLimit", 1)
        )
    order by old."removeAt", old.id
    limit %(limit)s
    for update of old skip locked
),
unlogged as (
    delete from "workerJobLogs" as line using removable where line."jobId" = removable.id
)
delete from "workerJobs" as j using removable where j.id = removable.id returning j.id
