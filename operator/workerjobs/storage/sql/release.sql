-- Give rows back unfinished; they are pending for everyone as of now.
-- By id alone: see settle.sql.
update "workerJobs" as j
set started = null, "leaseOwner" = null, "leaseDeadline" = null, "fencingToken" = null, progress = null,
    "updatedAt" = now()
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) as held (id, token)
where j.id = held.id and j."fencingToken" = held.token and num_nonnulls(j.started) <> 0 and num_nulls(j.finished) <> 0
returning j.id
