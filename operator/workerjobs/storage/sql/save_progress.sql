update "workerJobs" as j
set progress = report.progress::jsonb, "updatedAt" = now()
from unnest(%(ids)s::bigint[], %(tokens)s::bigint[], %(progress)s::text[]) as report (id, token, progress)
where j.id = report.id and j."fencingToken" = report.token and num_nonnulls(j.started) <> 0 and num_nulls(j.finished) <> 0
