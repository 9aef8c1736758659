-- Prolong leases by their tokens, also past their deadline while nobody took them. updatedAt stays: a renewal is no news.
-- By id alone: see settle.sql.
update "workerJobs" as j
set "leaseDeadline" = now() + %(lease)s
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) as held (id, token)
where j.id = held.id and j."fencingToken" = held.token and num_nonnulls(j.started) <> 0 and num_nulls(j.finished) <> 0
returning j.id, j."cancelRequested" as cancel_requested
