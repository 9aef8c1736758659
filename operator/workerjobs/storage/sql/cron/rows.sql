-- The unfinished rows of a cron line.
select {job_columns}
from "workerJobs" as j
where j."cronSchedule" is not null and j.finished is null and {cron_line} = %(key)s
order by j.id
