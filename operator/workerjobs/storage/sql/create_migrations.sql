create table if not exists "workerJobsMigrations" (
    version integer primary key,
    name text not null,
    -- Releases whose newest migration is below this can't work with the schema.
    "compatibleFrom" integer not null,
    "appliedAt" timestamptz not null default now()
)
