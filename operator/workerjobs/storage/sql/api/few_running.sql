-- Running rows, up to a number.
select j.id from "workerJobs" as j where j.started is not null and j.finished is null limit %(most)s
