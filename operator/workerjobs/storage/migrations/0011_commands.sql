-- What commands need: cron lines that are paused by hand, whatever their WorkerJob says, and what jobs log.

-- The lines that jobs log and print, as far as they are kept. Without a foreign key: it would lock the job's row for each
-- line, and keep "workerJobs" from being truncated.
create table "workerJobLogs" (
    id bigint generated always as identity primary key,
    "jobId" bigint not null,
    at timestamptz not null,
    level text not null check (level in ('trace', 'debug', 'info', 'warn', 'error')),
    message text not null
);
create index "workerJobLogs_job" on "workerJobLogs" ("jobId", id);

alter table "workerJobPauses" drop constraint "workerJobPauses_kind_check";
alter table "workerJobPauses" add constraint "workerJobPauses_kind_check" check (kind in ('pool', 'type', 'cron'));

-- Hold a row back that becomes pending while its resource is suspended or its line paused, whoever writes it: a
-- follow-up, a retry, a row given back. The locks make whoever suspends or pauses wait for it, and so see the row. The
-- lock of pauses is one for all lines, so that a settlement of many cron jobs takes one place in the table of locks.
create or replace function workerjobs.hold_suspended() returns trigger
language plpgsql as $$
declare
    is_held boolean := false;
begin
    if new."resourceUid" is not null then
        select state."isSuspended" into is_held
        from "workerJobResourceStates" as state
        where state."clusterId" = new."clusterId" and state."resourceUid" = new."resourceUid"
        for share;
    end if;
    if is_held is not true and new."cronSchedule" is not null then
        perform workerjobs.hold_off_pauses();
        -- A statement of its own, which sees the pause that whoever had the lock has written. A row that names no line
        -- belongs to one all the same: sql/cron_line.sql.
        is_held := exists (
            select from "workerJobPauses" as pause
            where pause.kind = 'cron'
                and pause.name = coalesce(
                    new."cronKey", 'tag:' || new.tag || ':' || new."cronSchedule", 'job:' || new.id
                )
        );
    end if;
    if is_held then
        update "workerJobs" set "heldDue" = due, due = 'infinity'
        where id = new.id and started is null and finished is null and due <> 'infinity';
    end if;
    return null;
end $$;

drop trigger "holdInserted" on "workerJobs";
create trigger "holdInserted" after insert on "workerJobs"
    for each row when (
        (new."resourceUid" is not null or new."cronSchedule" is not null) and new.started is null and new.finished is null
    )
    execute function workerjobs.hold_suspended();
drop trigger "holdReturned" on "workerJobs";
create trigger "holdReturned" after update on "workerJobs"
    for each row when (
        (new."resourceUid" is not null or new."cronSchedule" is not null)
        and new.started is null and new.finished is null
        -- Given back, or given its first tick.
        and (old.started is not null or (old.tick is null and new.tick is not null))
    )
    execute function workerjobs.hold_suspended();

-- Who may write jobs need not have rights on these tables: see 0002. Replacing a function takes its settings.
do $$
begin
    alter function workerjobs.hold_suspended() security definer;
    execute format('alter function workerjobs.hold_suspended() set search_path = %I, pg_temp', current_schema());
end $$;
