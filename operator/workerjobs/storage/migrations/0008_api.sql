-- The HTTP API: who may use it, who did what, and what its lists read.

-- Tokens are kept as SHA-256 of their text, which is long and made by chance: from a hash nobody gets a token.
create table "workerApiTokens" (
    id bigint generated always as identity primary key,
    name text not null,
    scope text not null check (scope in ('read', 'write')),
    hash text not null unique,
    "createdAt" timestamptz not null default now(),
    "expiresAt" timestamptz,
    -- To the minute.
    "lastUsedAt" timestamptz,
    "revokedAt" timestamptz
);
-- A name is one token's at a time; a revoked token stays, for the audit.
create unique index "workerApiTokens_name" on "workerApiTokens" (name) where "revokedAt" is null;

-- Who did what, written in the transaction that did it.
create table "workerAudit" (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    -- The token's name; "server" is WORKERJOBS_SERVER_TOKEN, "loopback" nobody in particular on the server's machine.
    actor text not null,
    "tokenId" bigint,
    address text,
    action text not null,
    details jsonb not null default '{}'
);
create index "workerAudit_at" on "workerAudit" (at);

-- Few rows are in these, so that they cost jobs that succeed nothing.
create index "workerJobs_unsuccessful" on "workerJobs" (id) where success = false;
create index "workerJobs_follower" on "workerJobs" ("rescheduledFromJob") where "rescheduledFromJob" is not null;
create index "workerJobs_scheduled" on "workerJobs" (id) where "cronSchedule" is not null and finished is null;
