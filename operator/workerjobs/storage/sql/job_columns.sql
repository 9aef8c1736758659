/* Moments that other programs may set to infinity, for "never", are cut to years that Python knows. A row that is held back
   shows when it would be due. */
j.id, j.type, j."userId" as user_id, j.data::text as data_json,
greatest(least(coalesce(j."heldDue", j.due), timestamptz '9999-12-30 00:00Z'), timestamptz '0001-01-02 00:00Z') as due,
j.started, j.finished,
j.success, j.result::text as result_json, j."cronSchedule" as cron_schedule, j.persistent, j.tag,
case when j."removeAt" is not null
    then greatest(least(j."removeAt", timestamptz '9999-12-30 00:00Z'), timestamptz '0001-01-02 00:00Z')
end as remove_at,
j."removeDelay" as remove_delay_ms, j."autoRescheduleOnFailure" as auto_reschedule_on_failure,
j."autoRescheduleOnFailureDelay" as auto_reschedule_on_failure_delay_ms,
j."rescheduledFromJob" as rescheduled_from_job, j."createdAt" as created_at, j."updatedAt" as updated_at, j.priority,
j.attempt, j.rescues, j."cronKey" as cron_key, j.tick, j."timeZone" as time_zone, j."retryLimit" as retry_limit,
j."retryInitialDelay" as retry_initial_delay_ms, j."retryFactor" as retry_factor,
j."retryMaxDelay" as retry_max_delay_ms, j."timeoutMs" as timeout_ms, j.pool, j."leaseOwner" as lease_owner,
j."leaseDeadline" as lease_deadline, j."fencingToken" as fencing_token, j."cancelRequested" as cancel_requested,
j.progress::text as progress_json, j."clusterId" as cluster_id, j.namespace, j."resourceName" as resource_name,
j."resourceUid" as resource_uid, j."resourceGeneration" as resource_generation, j.traceparent, j."catchUp" as catch_up,
j."concurrencyPolicy" as concurrency_policy, j."concurrencyKey" as concurrency_key,
j."concurrencyLimit" as concurrency_limit, j."rateLimit" as rate_limit, j."ratePeriod" as rate_period_ms,
j."retryJitter" as retry_jitter, j."dataFrom"::text as data_from_json, j."lostReason" as lost_reason,
j."heldDue" is not null and j.finished is null as is_suspended
