update "workerJobs" as job
set pool = given.pool
from unnest(%(cron_keys)s::text[], %(pools)s::text[]) as given (cron_key, pool)
where job."cronKey" = given.cron_key and job.started is null and job.finished is null and job.pool <> given.pool
returning job.id
