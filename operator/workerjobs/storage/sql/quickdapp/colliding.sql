-- Rows of "workerJobs" whose ids worker_jobs has too.
select j.id, j.started is not null and j.finished is null as is_running
from "workerJobs" as j
where j.id in (select id from worker_jobs)
order by j.id
