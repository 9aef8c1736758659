-- Pending rows, up to a number.
(
    select j.id from "workerJobs" as j
    where j.started is null and j.finished is null and j."concurrencyKey" is null
    limit %(most)s
)
union all
(
    select j.id from "workerJobs" as j
    where j.started is null and j.finished is null and j."concurrencyKey" is not null
    limit %(most)s
)
