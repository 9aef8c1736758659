/* Rows of jobs that did not succeed and that nothing followed, by a filter; not of WorkerJobs that were deleted, which
   can't run again. */
(
    select j.id, j.type, false as is_cron
    from "workerJobs" as j
    where j.success = false and j.id < %(before)s and {job_filters}
        and not {was_run_again}
        and not exists (
            select from "workerJobResources" as r
            where r."clusterId" = j."clusterId" and r."resourceUid" = j."resourceUid" and r."deletedAt" is not null
        )
)
