-- Insert jobs given as one JSON array, in its order. A tick that another worker inserted first is left out.
insert into "workerJobs" as j (
    type, "userId", data, due, tag, "cronSchedule", "timeZone", "cronKey", tick, persistent, priority, pool, "timeoutMs",
    "removeDelay", "removeAt", "autoRescheduleOnFailure", "autoRescheduleOnFailureDelay", "retryLimit",
    "retryInitialDelay", "retryFactor", "retryMaxDelay", traceparent, "clusterId", namespace, "resourceName",
    "resourceUid", "resourceGeneration", "concurrencyKey", "concurrencyLimit", "rateLimit", "ratePeriod"
)
select
    type, user_id, data, coalesce(due, now()), tag, cron_schedule, time_zone, cron_key, tick, persistent, priority, pool,
    timeout_ms, remove_delay_ms,
    workerjobs.remove_at(coalesce(due, now()), remove_delay_ms),
    auto_reschedule_on_failure, auto_reschedule_on_failure_delay_ms, retry_limit, retry_initial_delay_ms, retry_factor,
    retry_max_delay_ms, traceparent, cluster_id, namespace, resource_name, resource_uid, resource_generation,
    concurrency_key, concurrency_limit, rate_limit, rate_period_ms
from rows from (json_to_recordset(%(jobs)s) as ({new_job_columns})) with ordinality
order by ordinality
on conflict ("cronKey", tick)
    where "cronKey" is not null
    and not (finished is not null and success = false and (started is null or "cancelRequested"))
    do nothing
returning {job_columns}
