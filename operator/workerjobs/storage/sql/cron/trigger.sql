-- Run the job of a cron line now, beside the line: a plain job that names the line's last run, and cancels nothing by its
-- tag.
select {job_columns}
from workerjobs.store_jobs(
    (
        select json_agg(line)
        from (
            select
                j.type, j.data, j."userId" as user_id, j.tag, j.persistent, j.priority, j.pool,
                j."timeoutMs" as timeout_ms, j."removeDelay" as remove_delay_ms,
                j."autoRescheduleOnFailure" as auto_reschedule_on_failure,
                j."autoRescheduleOnFailureDelay" as auto_reschedule_on_failure_delay_ms,
                j."retryLimit" as retry_limit, j."retryInitialDelay" as retry_initial_delay_ms,
                j."retryFactor" as retry_factor, j."retryMaxDelay" as retry_max_delay_ms,
                j."retryJitter" as retry_jitter, j."concurrencyKey" as concurrency_key,
                j."concurrencyLimit" as concurrency_limit, j."rateLimit" as rate_limit, j."ratePeriod" as rate_period_ms,
                j."dataFrom" as data_from, j."clusterId" as cluster_id, j.namespace,
                j."resourceName" as resource_name, j."resourceUid" as resource_uid,
                j."resourceGeneration" as resource_generation, (
                    select run.id
                    from "workerJobs" as run
                    where run."cronKey" = j."cronKey" and run.finished is not null
                        and not (run.success = false and (run.started is null or run."cancelRequested"))
                    order by run.tick desc
                    limit 1
                ) as rescheduled_from_job
            from "workerJobs" as j
            where j."cronSchedule" is not null and j.finished is null and {cron_line} = %(key)s
            order by j.id
            limit 1
        ) as line
    )
) as j
