-- Insert jobs given as one JSON array, in its order. A tick that another worker inserted first is left out.
insert into "workerJobs" as j (
    type, "userId", data, due, tag, "cronSchedule", "timeZone", "cronKey", tick, persistent, priority, pool, "timeoutMs",
    "removeDelay", "removeAt", "autoRescheduleOnFailure", "autoRescheduleOnFailureDelay", "retryLimit",
    "retryInitialDelay", "retryFactor", "retryMaxDelay", traceparent, "clusterId", namespace, "resourceName",
    "resourceUid", "resourceGeneration"
)
select
    type, user_id, data, coalesce(due, now()), tag, cron_schedule, time_zone, cron_key, tick, persistent, priority, pool,
    timeout_ms, remove_delay_ms,
    coalesce(due, now())
    + interval '1 millisecond' * case remove_delay_ms when 0 then 3600000 else remove_delay_ms end,
    auto_reschedule_on_failure, auto_reschedule_on_failure_delay_ms, retry_limit, retry_initial_delay_ms, retry_factor,
    retry_max_delay_ms, traceparent, cluster_id, namespace, resource_name, resource_uid, resource_generation
from rows from (json_to_recordset(%(jobs)s) as (
    type text, user_id integer, data json, due timestamptz, tag text, cron_schedule text, time_zone text, cron_key text,
    tick timestamptz, persistent boolean, priority smallint, pool text, timeout_ms integer, remove_delay_ms integer,
    auto_reschedule_on_failure boolean, auto_reschedule_on_failure_delay_ms integer, retry_limit integer,
    retry_initial_delay_ms integer, retry_factor double precision, retry_max_delay_ms integer, traceparent text,
    cluster_id text, namespace text, resource_name text, resource_uid text, resource_generation bigint
)) with ordinality
order by ordinality
on conflict ("cronKey", tick)
    where "cronKey" is not null
    and not (finished is not null and success = false and (started is null or "cancelRequested"))
    do nothing
returning {job_columns}
