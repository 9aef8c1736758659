-- Show that a worker lives, and what it knows.
insert into "workerJobWorkers" as worker (
    owner, pool, host, pid, version, children, types, schemas, "isDraining", "startedAt", "seenAt"
)
values (
    %(owner)s, %(pool)s, %(host)s, %(pid)s, %(version)s, %(children)s, %(types)s, %(schemas)s, %(is_draining)s, now(),
    now()
)
on conflict (owner) do update
set children = excluded.children, types = excluded.types, schemas = excluded.schemas,
    "isDraining" = excluded."isDraining", "seenAt" = now()
