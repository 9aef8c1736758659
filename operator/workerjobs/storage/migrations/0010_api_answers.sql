-- Requests that are not to be carried out twice: what was answered under an Idempotency-Key. A line is written in the
-- transaction that does what is asked, and waits for the one that came first with the same key.
create table "workerApiAnswers" (
    -- As in "workerAudit": keys of different callers have nothing to do with each other.
    actor text not null,
    key text not null,
    -- SHA-256 of what was asked.
    fingerprint text not null,
    -- Without the data of a job, which whoever asks again sends again.
    answer jsonb,
    "createdAt" timestamptz not null default now(),
    primary key (actor, key)
);
create index "workerApiAnswers_createdAt" on "workerApiAnswers" ("createdAt");
