-- WorkerPools as their operator sees them, for those who can't ask the cluster: the dashboard.

create table "workerPools" (
    uid text primary key,
    "clusterId" text not null,
    namespace text not null,
    name text not null,
    -- Whose jobs its workers run.
    pool text not null,
    desired integer not null,
    replicas integer not null,
    ready integer not null,
    -- Why that many are desired: a condition's reason, and a sentence.
    reason text not null,
    message text not null,
    "updatedAt" timestamptz not null default now()
);
