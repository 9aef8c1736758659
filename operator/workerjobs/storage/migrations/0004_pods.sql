-- Workers in pods: which pod a worker is, what it is asked to do (drain, end), and which operator may write.

alter table "workerJobWorkers"
    -- The pod that it runs in; null outside of Kubernetes. An operator that knows the pod notes its cluster's id.
    add column "clusterId" text,
    add column namespace text,
    add column "podName" text,
    add column "podUid" text,
    -- When it began, by the clock of its own machine: the kubelet's moments of its container are of the same clock.
    add column "bootedAt" timestamptz not null default now(),
    -- Why it is to take no more jobs; while there is a reason it finishes what it runs and waits.
    add column "drainReasons" text[] not null default '{}',
    -- Its pod is gone from the cluster: its jobs are taken from it once it says that it has stopped them, or shortly.
    add column "revokedAt" timestamptz,
    add column "revocationSeenAt" timestamptz;

-- The pod's workers, the newest last.
create index "workerJobWorkers_pod" on "workerJobWorkers" ("podUid") where "podUid" is not null;

-- Announcements, over the same channel as before:
--   worker    {"kind": "worker", "owner": text}: the worker is asked to do something; its line says what
create function workerjobs.announce_worker() returns trigger
language plpgsql as $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'worker', 'owner', new.owner)::text);
    return null;
end $$;

create trigger "announceWorker" after update on "workerJobWorkers"
    for each row when (
        new."drainReasons" is distinct from old."drainReasons" or new."revokedAt" is distinct from old."revokedAt"
    )
    execute function workerjobs.announce_worker();

-- How the job's last worker was lost, next to the count of them in "rescues".
alter table "workerJobs" add column "lostReason" text;

-- Which operator leads: one line for each Lease. What it writes to the database asks for its number of the leadership, so
-- that one that was paused meanwhile writes nothing any more.
create table "workerJobLeaders" (
    lease text primary key,
    -- The Lease's leaseTransitions.
    transitions bigint not null,
    holder text not null,
    "since" timestamptz not null default now()
);
