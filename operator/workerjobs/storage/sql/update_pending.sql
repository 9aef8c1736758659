-- Write a newer generation of a resource into its pending row. One that a worker claims meanwhile stays as it was.
with input as (
    select *
    from json_populate_recordset(null::workerjobs.new_job, %(jobs)s) as newer
),
pending as (
    select j.id, input.*, kept.is_retry, kept.is_earlier,
        case
            when kept.is_retry or kept.is_earlier then coalesce(j."heldDue", j.due)
            else coalesce(input.due, j."createdAt")
        end as new_due
    from input
    join "workerJobs" as j on j."clusterId" = %(cluster_id)s and j."resourceUid" = input.resource_uid
    cross join lateral (
        select
            -- A row that waits for its retry keeps its moment and stays outside the cron line.
            j."rescheduledFromJob" is not null and j."cronKey" is null as is_retry,
            -- Where a line's runs may overlap, an earlier tick may wait beside the next one. It keeps its moment.
            exists (
                select 1 from "workerJobs" as later
                where later."cronKey" = j."cronKey" and later.tick > j.tick and later.started is null
                    and later.finished is null
            ) as is_earlier
    ) as kept
    where j.started is null and j.finished is null and j."resourceGeneration" is distinct from input.resource_generation
    order by j.id
    for update of j
)
update "workerJobs" as j
set data = pending.data, tag = pending.tag, persistent = pending.persistent, priority = pending.priority,
    pool = pending.pool, "timeoutMs" = pending.timeout_ms, "removeDelay" = pending.remove_delay_ms,
    -- One that is held back stays so.
    due = case when j."heldDue" is null then pending.new_due else 'infinity' end,
    "heldDue" = case when j."heldDue" is not null then pending.new_due end, "dataFrom" = pending.data_from,
    tick = case when pending.is_earlier then j.tick when not pending.is_retry then pending.tick end,
    "cronKey" = case when not pending.is_retry then pending.cron_key end,
    "cronSchedule" = case when not pending.is_retry then pending.cron_schedule end,
    "timeZone" = case when not pending.is_retry then pending.time_zone end,
    "removeAt" = workerjobs.remove_at(pending.new_due, pending.remove_delay_ms),
    "autoRescheduleOnFailure" = pending.auto_reschedule_on_failure,
    "autoRescheduleOnFailureDelay" = pending.auto_reschedule_on_failure_delay_ms,
    "retryLimit" = pending.retry_limit, "retryInitialDelay" = pending.retry_initial_delay_ms,
    "retryFactor" = pending.retry_factor, "retryMaxDelay" = pending.retry_max_delay_ms,
    "concurrencyKey" = pending.concurrency_key, "concurrencyLimit" = pending.concurrency_limit,
    "rateLimit" = pending.rate_limit, "ratePeriod" = pending.rate_period_ms, "retryJitter" = pending.retry_jitter,
    "catchUp" = case when not pending.is_retry then pending.catch_up end,
    "concurrencyPolicy" = case when not pending.is_retry then pending.concurrency_policy end,
    "resourceGeneration" = pending.resource_generation, "updatedAt" = now()
from pending
where j.id = pending.id
returning j.id
