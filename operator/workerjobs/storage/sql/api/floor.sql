-- Where a look at so many rows ends, newest first; nothing where there are fewer.
select j.id from "workerJobs" as j where j.id < %(before)s order by j.id desc offset %(window)s - 1 limit 1
