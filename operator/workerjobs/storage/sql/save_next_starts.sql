update "workerJobLimits" as own
set "nextStart" = started.next_start, "updatedAt" = now()
from unnest(%(kinds)s::text[], %(names)s::text[], %(next_starts)s::timestamptz[]) as started (kind, name, next_start)
where own.kind = started.kind and own.name = started.name
