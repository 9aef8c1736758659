-- Give rows back unfinished; they are pending for everyone as of now.
update "workerJobs" as j
set started = null, "leaseOwner" = null, "leaseDeadline" = null, "fencingToken" = null, progress = null,
    "updatedAt" = now()
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) as held (id, token)
where j.id = held.id and j."fencingToken" = held.token and j.started is not null and j.finished is null
returning j.id
