-- Take the rows over. A row without cronKey and tick is a run of the cron line that its tag and schedule name.
insert into "workerJobs" (
    id, tag, type, "userId", data, due, started, finished, "removeAt", success, result, "cronSchedule",
    "autoRescheduleOnFailure", "autoRescheduleOnFailureDelay", "removeDelay", "rescheduledFromJob", persistent,
    "createdAt", "updatedAt", "cancelRequested"
)
select
    id, tag, type, user_id, data::json, due, started, finished, remove_at,
    case when finished is not null then coalesce(success, false) end,
    case when result is not null then workerjobs.as_jsonb(result::text) end,
    cron_schedule, auto_reschedule_on_failure, auto_reschedule_on_failure_delay, remove_delay, rescheduled_from_job,
    persistent, created_at, updated_at,
    -- How QuickDapp cancels.
    finished is not null and not coalesce(success, false) and started is not distinct from finished
from worker_jobs
order by id
