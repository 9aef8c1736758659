-- WorkerJobs that are suspended, run again, counted, and kept for so many runs.

alter table "workerJobs"
    -- When a row that is held back would be due, as its WorkerJob is suspended; until it goes on, due is infinity.
    add column "heldDue" timestamptz;

-- What holds for all runs of a resource. "workerJobResources" has a line for each run that it asked for.
create table "workerJobResourceStates" (
    "clusterId" text not null,
    "resourceUid" text not null,
    "isSuspended" boolean not null default false,
    -- So many finished rows are kept, whatever their removeAt says; null: the newest, and those before their removeAt.
    "historyLimit" integer check ("historyLimit" > 0),
    -- Rows that ended so, ever; those that tried again what had failed; and how often a run lost its worker.
    succeeded bigint not null default 0,
    failed bigint not null default 0,
    cancelled bigint not null default 0,
    retried bigint not null default 0,
    lost bigint not null default 0,
    primary key ("clusterId", "resourceUid")
);

-- Ends that are not in these counts yet. A line each, as two workers that settle batches would wait for each other if
-- they wrote counts of the same resources in another order.
create table "workerJobEnds" (
    "clusterId" text not null,
    "resourceUid" text not null,
    state text not null,
    attempt integer not null,
    rescues integer not null
);
create index "workerJobEnds_resource" on "workerJobEnds" ("clusterId", "resourceUid");

create function workerjobs.note_end() returns trigger
language plpgsql as $$
begin
    if new."clusterId" is not null then
        insert into "workerJobEnds" ("clusterId", "resourceUid", state, attempt, rescues)
        values (
            new."clusterId", new."resourceUid",
            case
                when new.success then 'succeeded'
                when new.started is null or new."cancelRequested" then 'cancelled'
                else 'failed'
            end,
            new.attempt, new.rescues
        );
    end if;
    return null;
end $$;

create trigger "noteInsertedEnd" after insert on "workerJobs"
    for each row when (new."resourceUid" is not null and new.finished is not null)
    execute function workerjobs.note_end();
create trigger "noteEnd" after update on "workerJobs"
    for each row when (new."resourceUid" is not null and new.finished is not null and old.finished is null)
    execute function workerjobs.note_end();

-- Hold a row back that becomes pending while its resource is suspended, whoever writes it: a follow-up, a retry, a row
-- given back. The lock makes whoever suspends wait for it, and so see the row.
create function workerjobs.hold_suspended() returns trigger
language plpgsql as $$
declare
    is_suspended boolean;
begin
    select state."isSuspended" into is_suspended
    from "workerJobResourceStates" as state
    where state."clusterId" = new."clusterId" and state."resourceUid" = new."resourceUid"
    for share;
    if is_suspended then
        update "workerJobs" set "heldDue" = due, due = 'infinity'
        where id = new.id and started is null and finished is null and due <> 'infinity';
    end if;
    return null;
end $$;

-- After and not before: with a trigger before, COPY would insert row by row, and each update look up its row once more.
create trigger "holdInserted" after insert on "workerJobs"
    for each row when (new."resourceUid" is not null and new.started is null and new.finished is null)
    execute function workerjobs.hold_suspended();
create trigger "holdReturned" after update on "workerJobs"
    for each row when (
        new."resourceUid" is not null and new.started is null and new.finished is null and old.started is not null
    )
    execute function workerjobs.hold_suspended();

-- Who may write jobs need not have rights on these tables: see 0002.
do $$
declare
    noting text;
begin
    foreach noting in array array['note_end()', 'hold_suspended()'] loop
        execute format('alter function workerjobs.%s security definer', noting);
        execute format('alter function workerjobs.%s set search_path = %I, pg_temp', noting, current_schema());
    end loop;
end $$;
