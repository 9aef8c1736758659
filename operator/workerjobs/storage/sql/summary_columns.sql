/* A row as lists show it, without what may be large; columns named as workerjobs.ports.api.JobSummary's fields. */
j.id, {job_state} as state, j.type, j."userId" as user_id, j.tag, j.pool, j.priority, j.attempt,
greatest(least(coalesce(j."heldDue", j.due), timestamptz '9999-12-30 00:00Z'), timestamptz '0001-01-02 00:00Z') as due,
j.started, j.finished, j."cancelRequested" as cancel_requested, j.progress,
case when j.success = false and jsonb_typeof(j.result) = 'object' then left(j.result ->> 'error', 500) end as error,
j."cronSchedule" as cron_schedule, j."cronKey" as cron_key, j."rescheduledFromJob" as rescheduled_from_job, j.namespace,
j."resourceName" as resource_name, j."createdAt" as created_at, j."updatedAt" as updated_at
