-- Give rows new ids above all that are in use, and take those that name them along.
with highest as (
    select greatest((select max(id) from worker_jobs), (select max(id) from "workerJobs")) as id
)
update "workerJobs" as j
set id = case when j.id = any(%(ids)s) then highest.id + j.id else j.id end,
    "rescheduledFromJob" = case
        when j."rescheduledFromJob" = any(%(ids)s) then highest.id + j."rescheduledFromJob"
        else j."rescheduledFromJob"
    end,
    "updatedAt" = now()
from highest
where j.id = any(%(ids)s) or j."rescheduledFromJob" = any(%(ids)s)
