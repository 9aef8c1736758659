-- The table as QuickDapp's migrations make it (QuickDapp/QuickDapp 3.17.0,
-- packages/variant-web3/src/server/db/migrations/0000_secret_songbird.sql).
create table worker_jobs (
    id serial primary key,
    tag text not null,
    type text not null,
    user_id integer not null,
    data json not null,
    due timestamptz not null,
    started timestamptz,
    finished timestamptz,
    remove_at timestamptz not null,
    success boolean,
    result json,
    cron_schedule text,
    auto_reschedule_on_failure boolean not null default false,
    auto_reschedule_on_failure_delay integer not null default 0,
    remove_delay integer not null default 0,
    rescheduled_from_job integer,
    persistent boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
