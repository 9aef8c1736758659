/* Unfinished rows that nobody cancels yet, by a filter; each kind has its index. */
(
    select j.id, j.type, j."cronSchedule" is not null as is_cron
    from "workerJobs" as j
    where j.started is null and j.finished is null and j."concurrencyKey" is null
        and not j."cancelRequested" and j.id < %(before)s and {job_filters}
    union all
    select j.id, j.type, j."cronSchedule" is not null as is_cron
    from "workerJobs" as j
    where j.started is null and j.finished is null and j."concurrencyKey" is not null
        and not j."cancelRequested" and j.id < %(before)s and {job_filters}
    union all
    select j.id, j.type, j."cronSchedule" is not null as is_cron
    from "workerJobs" as j
    where j.started is not null and j.finished is null
        and not j."cancelRequested" and j.id < %(before)s and {job_filters}
)
