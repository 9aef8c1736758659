-- The complete queue: live workers and the job types they know, pauses, limits, and pending rows found by type.

-- Announces itself here while it lives. A type that none of these knows has no one to run it.
create table "workerJobWorkers" (
    owner text primary key,
    pool text not null,
    host text not null,
    pid integer not null,
    version text not null,
    children integer not null,
    types text[] not null default '{}',
    -- What each type's data must look like, as JSON Schema, for those that say it: {type: schema}.
    schemas jsonb not null default '{}',
    "isDraining" boolean not null default false,
    "startedAt" timestamptz not null default now(),
    "seenAt" timestamptz not null default now()
);

-- What is not to be claimed for now; running jobs go on.
create table "workerJobPauses" (
    kind text not null check (kind in ('pool', 'type')),
    name text not null,
    reason text,
    "pausedAt" timestamptz not null default now(),
    primary key (kind, name)
);

-- How many jobs of a type, or of a concurrencyKey, run at once and start in a period. A key that only rows name gets its
-- line here when the first of them is claimed: whoever claims under a key locks its line.
create table "workerJobLimits" (
    kind text not null check (kind in ('type', 'key')),
    name text not null,
    -- Null: rows say it themselves ("concurrencyLimit"), or there is no limit.
    concurrency integer check (concurrency >= 0),
    "rateLimit" integer check ("rateLimit" > 0),
    -- Milliseconds.
    "ratePeriod" integer check ("ratePeriod" > 0),
    -- The moment at which the starts so far would have happened, had they come evenly at the allowed rate.
    "nextStart" timestamptz,
    -- Workers wrote it, as the type's code says it; what a person sets stays as it is.
    "isDeclared" boolean not null default false,
    "updatedAt" timestamptz not null default now(),
    primary key (kind, name),
    constraint "workerJobLimits_rate_is_whole" check (("rateLimit" is null) = ("ratePeriod" is null))
);

alter table "workerJobs"
    add column "rateLimit" integer,
    add column "ratePeriod" integer,
    -- The part of a retry's delay, 0 to 1, that chance may take off.
    add column "retryJitter" double precision,
    -- The next row of a run's cron line is there already: settling the run makes none.
    add column "isFollowed" boolean not null default false;

-- Who schedules a tag anew looks for its running rows too.
create index "workerJobs_unfinished_tag" on "workerJobs" (tag) where tag is not null and finished is null;
drop index "workerJobs_pending_tag";

-- What a claim reads: pending rows of a type, so that those of paused and unknown types cost nothing. Those behind a key
-- are claimed under its lock, and found one key after the other.
create index "workerJobs_claimable" on "workerJobs" (pool, type, priority desc, due, id)
    where started is null and finished is null and "concurrencyKey" is null;
create index "workerJobs_keyed" on "workerJobs" (pool, type, "concurrencyKey", priority desc, due, id)
    where started is null and finished is null and "concurrencyKey" is not null;
-- Live leases of a key are counted, and the pools found in which rows wait for it, without reading all its pending rows.
-- The second one says of the deadline what is true of every pending row: no claim is planned over it by mistake.
create index "workerJobs_running_key" on "workerJobs" ("concurrencyKey", "leaseDeadline")
    where started is not null and finished is null and "concurrencyKey" is not null;
create index "workerJobs_waiting_key" on "workerJobs" ("concurrencyKey", pool)
    where started is null and finished is null and "leaseDeadline" is null and "concurrencyKey" is not null;
drop index "workerJobs_pending";

-- Announcements, over the same channel as before:
--   due       also says the job type, where all rows are of one: "type"; workers that do not know it sleep on
--   limited   {"kind": "limited", "pool": text}: rows of the pool that are under a limit may have become free to start
--   settings  {"kind": "settings"}: pauses or limits changed

-- Tells the pools that have pending rows of a key: one of them may start.
create function workerjobs.announce_key(key text) returns void
language plpgsql set search_path from current as $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', waiting.pool)::text)
    from (
        with recursive pools (pool) as (
            (
                select first.pool from "workerJobs" as first
                where first.started is null and first.finished is null and first."leaseDeadline" is null
                    and first."concurrencyKey" = key
                order by first.pool
                limit 1
            )
            union all
            select (
                select following.pool from "workerJobs" as following
                where following.started is null and following.finished is null and following."leaseDeadline" is null
                    and following."concurrencyKey" = key and following.pool > pools.pool
                order by following.pool
                limit 1
            )
            from pools
            where pools.pool is not null
        )
        select pools.pool from pools where pools.pool is not null
    ) as waiting;
end $$;

-- The same for a type with limits of its own.
create function workerjobs.announce_type(type text) returns void
language plpgsql set search_path from current as $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', waiting.pool)::text)
    from (
        with recursive pools (pool) as (
            select (
                select first.pool from "workerJobs" as first
                where first.started is null and first.finished is null and first."concurrencyKey" is null
                order by first.pool
                limit 1
            )
            union all
            select (
                select following.pool from "workerJobs" as following
                where following.started is null and following.finished is null and following."concurrencyKey" is null
                    and following.pool > pools.pool
                order by following.pool
                limit 1
            )
            from pools
            where pools.pool is not null
        ),
        keyed_pools (pool) as (
            select (
                select first.pool from "workerJobs" as first
                where first.started is null and first.finished is null and first."concurrencyKey" is not null
                order by first.pool
                limit 1
            )
            union all
            select (
                select following.pool from "workerJobs" as following
                where following.started is null and following.finished is null
                    and following."concurrencyKey" is not null and following.pool > keyed_pools.pool
                order by following.pool
                limit 1
            )
            from keyed_pools
            where keyed_pools.pool is not null
        )
        select pools.pool from pools
        where exists (
            select from "workerJobs" as pending
            where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
                and pending.pool = pools.pool and pending.type = announce_type.type
        )
        union
        select keyed_pools.pool from keyed_pools
        where exists (
            select from "workerJobs" as pending
            where pending.started is null and pending.finished is null and pending."concurrencyKey" is not null
                and pending.pool = keyed_pools.pool and pending.type = announce_type.type
        )
    ) as waiting;
end $$;

create or replace function workerjobs.announce_inserted() returns trigger
language plpgsql set search_path from current as $$
declare
    earliest record;
    is_first constant boolean := coalesce(current_setting('workerjobs.has_announced', true), '') = '';
begin
    for earliest in
        select pool, min(due) as due, case when min(type) = max(type) then min(type) end as type,
            -- A single row is named, so that whoever is idle claims it without a search. Only the first one of a
            -- transaction: announcements that are alike are told once, however many statements there are.
            case when is_first and count(*) = 1 then min(id) end as id,
            bool_or(
                "concurrencyKey" is not null
                or type in (select own.name from "workerJobLimits" as own where own.kind = 'type')
            ) as is_limited
        from inserted
        where started is null and finished is null
        group by pool
    loop
        perform set_config('workerjobs.has_announced', 'yes', true);
        perform pg_notify('workerJobs', json_build_object(
            'kind', 'due', 'pool', earliest.pool, 'seconds', workerjobs.seconds_until(earliest.due),
            'type', earliest.type, 'id', case when not earliest.is_limited then earliest.id end
        )::text);
        if earliest.is_limited then
            perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', earliest.pool)::text);
        end if;
    end loop;
    return null;
end $$;

-- A row that is pending again, or is another one now, may also have freed a permit.
create or replace function workerjobs.announce_pending() returns trigger
language plpgsql set search_path from current as $$
begin
    perform pg_notify('workerJobs', json_build_object(
        'kind', 'due', 'pool', new.pool, 'seconds', workerjobs.seconds_until(new.due), 'type', new.type
    )::text);
    if new."concurrencyKey" is not null then
        perform workerjobs.announce_key(new."concurrencyKey");
    end if;
    if exists (select from "workerJobLimits" as own where own.kind = 'type' and own.name = new.type) then
        perform workerjobs.announce_type(new.type);
    end if;
    return null;
end $$;

create function workerjobs.announce_limited() returns trigger
language plpgsql set search_path from current as $$
begin
    perform workerjobs.announce_key(new."concurrencyKey");
    return null;
end $$;

-- A permit of a key became free. Of types with limits, which are few, the settling statement says it.
create trigger "announceLimited" after update on "workerJobs"
    for each row when (
        new."concurrencyKey" is not null and new.finished is not null and old.finished is null
        and old.started is not null
    )
    execute function workerjobs.announce_limited();

-- Who may insert jobs need not be allowed to read limits: these look with the rights of the tables' owner, and in the
-- tables' schema before any of the caller's temporary tables.
do $$
declare
    announcer text;
begin
    foreach announcer in array array['announce_inserted()', 'announce_pending()', 'announce_limited()'] loop
        execute format('alter function workerjobs.%s security definer', announcer);
        execute format('alter function workerjobs.%s set search_path = %I, pg_temp', announcer, current_schema());
    end loop;
end $$;

create function workerjobs.announce_settings() returns trigger
language plpgsql as $$
begin
    perform pg_notify('workerJobs', '{"kind": "settings"}');
    return null;
end $$;

create trigger "announcePauses" after insert or update or delete on "workerJobPauses"
    for each statement execute function workerjobs.announce_settings();

-- Claims write only "nextStart", and add lines for keys.
create trigger "announceLimits" after update of concurrency, "rateLimit", "ratePeriod" or delete on "workerJobLimits"
    for each statement execute function workerjobs.announce_settings();
create trigger "announceNewLimits" after insert on "workerJobLimits"
    for each row when (new.concurrency is not null or new."rateLimit" is not null)
    execute function workerjobs.announce_settings();

-- Each job leaves two dead versions of its row, and index entries, at the place where claims look. Half a page is kept
-- free so that a row's next version stays in its page: less WAL, and no larger a table after a run. Vacuum comes by the
-- number of dead rows and hardly by the table's size, does not leave index entries alone because few pages of a large
-- table are concerned, is not slowed down, and does not lock claims out to cut off an empty end.
alter table "workerJobs" set (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_limit = 2000,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_analyze_threshold = 1000,
    vacuum_index_cleanup = on,
    vacuum_truncate = off
);
