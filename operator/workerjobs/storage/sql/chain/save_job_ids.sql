update "workerChainEffects" as effect
set "jobId" = given.job_id
from unnest(%(ids)s::bigint[], %(job_ids)s::bigint[]) as given (id, job_id)
where effect.id = given.id
