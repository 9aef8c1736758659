-- Delete a finished row, with what it logged. Those of a resource go with it, or as its historyLimit says: its status is
-- read from them.
with removed as (
    delete from "workerJobs" as j
    where j.id = %(id)s and j.finished is not null and j."resourceUid" is null
    returning j.id
),
unlogged as (
    delete from "workerJobLogs" as line using removed where line."jobId" = removed.id
)
select id from removed
