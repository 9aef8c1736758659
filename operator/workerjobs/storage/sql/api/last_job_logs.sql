-- The last lines that a job logged before one, the newest first. As in job_logs.sql, those of an earlier job of the same
-- number are left out.
select line.id, line.at, line.level, line.message
from "workerJobLogs" as line
join "workerJobs" as j on j.id = line."jobId"
where line."jobId" = %(id)s and line.id < %(before)s and line.at >= j."createdAt" - interval '1 minute'
order by line.id desc
limit %(limit)s
