-- What a job logged, after a line. Ids of jobs come again after TRUNCATE … RESTART IDENTITY: lines of earlier ones are
-- left out.
select line.id, line.at, line.level, line.message
from "workerJobLogs" as line
join "workerJobs" as j on j.id = line."jobId"
where line."jobId" = %(id)s and line.id > %(after)s and line.at >= j."createdAt" - interval '1 minute'
order by line.id
limit %(limit)s
