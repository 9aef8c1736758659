-- How far back so many of the newest rows reach; nothing where these are all.
select j."createdAt" from "workerJobs" as j order by j.id desc offset %(sample)s - 1 limit 1
