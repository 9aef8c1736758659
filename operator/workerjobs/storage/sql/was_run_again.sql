/* Whether a retry or a run by hand followed a job; the next row of its cron line does not count. */
exists (
    select from "workerJobs" as again where again."rescheduledFromJob" = j.id and again."cronKey" is null
)
