select coalesce((select j.id from "workerJobs" as j order by j.id desc limit 1), 0) as id
