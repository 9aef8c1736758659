-- Prolong leases by their tokens, also past their deadline while nobody took them. updatedAt stays: a renewal is no news.
update "workerJobs" as j
set "leaseDeadline" = now() + %(lease)s
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) as held (id, token)
where j.id = held.id and j."fencingToken" = held.token and j.started is not null and j.finished is null
returning j.id, j."cancelRequested" as cancel_requested
