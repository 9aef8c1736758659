-- Give rows new ids above all that are in use, and take along what names them: other rows, what they logged, and what a
-- watched chain made them for.
with highest as (
    select greatest((select max(id) from worker_jobs), (select max(id) from "workerJobs")) as id
),
logged as (
    update "workerJobLogs" as line set "jobId" = highest.id + line."jobId" from highest where line."jobId" = any(%(ids)s)
),
effects as (
    update "workerChainEffects" as effect set "jobId" = highest.id + effect."jobId"
    from highest where effect."jobId" = any(%(ids)s)
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
