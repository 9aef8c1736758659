-- Unfinished rows of cron jobs, each with how the line's last runs ended, newest first.
select {summary_columns}, j."timeZone" as time_zone, j."catchUp" as catch_up,
    j."concurrencyPolicy" as concurrency_policy, j.tick, j."heldDue" is not null as is_suspended, array(
        select case when run.success then 'succeeded' when run."cancelRequested" then 'cancelled' else 'failed' end
        from "workerJobs" as run
        where run."cronKey" = j."cronKey" and run.finished is not null
            and not (run.success = false and (run.started is null or run."cancelRequested"))
        order by run.tick desc
        limit 10
    ) as last_states
from "workerJobs" as j
where j."cronSchedule" is not null and j.finished is null and j.id > %(after)s
order by j.id
limit %(limit)s
