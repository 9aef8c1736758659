-- "workerJobs" in QuickDapp's shape. Postgres passes what is written to the view on to the table.
create or replace view worker_jobs as
select
    "shortId" as id, tag, type, "userId" as user_id, data, due, started, finished, "removeAt" as remove_at, success,
    result, "cronSchedule" as cron_schedule, "autoRescheduleOnFailure" as auto_reschedule_on_failure,
    "autoRescheduleOnFailureDelay" as auto_reschedule_on_failure_delay, "removeDelay" as remove_delay,
    "rescheduledFromJob" as rescheduled_from_job, persistent, "createdAt" as created_at, "updatedAt" as updated_at
from "workerJobs";

-- QuickDapp cancels the pending jobs of a tag by setting started and finished to one moment, also for jobs that started
-- half an hour ago, which it takes for lost. WorkerJobs itself takes the deadline away from a row that it finishes.
create or replace function workerjobs.recognise_cancellation() returns trigger
language plpgsql as $$
begin
    if old."leaseDeadline" > now() then
        -- Its worker lives: it goes on, as running jobs do whoever schedules their tag anew.
        return null;
    end if;
    -- A cancelled row, and not a failed one that keeps its tick taken.
    new."cancelRequested" = true;
    new."leaseDeadline" = null;
    return new;
end $$;

create or replace trigger "recogniseCancellation" before update on "workerJobs"
    for each row when (
        old.finished is null and new.finished = new.started and not new.success
        and new.started is distinct from old.started
        and new."leaseDeadline" is not distinct from old."leaseDeadline"
    )
    execute function workerjobs.recognise_cancellation();
