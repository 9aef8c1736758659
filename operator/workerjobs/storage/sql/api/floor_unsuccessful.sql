-- The same for rows of jobs that did not succeed.
select j.id from "workerJobs" as j where j.success = false and j.id < %(before)s order by j.id desc
offset %(window)s - 1 limit 1
