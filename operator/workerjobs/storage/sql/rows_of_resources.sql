-- For each resource: its unfinished rows and its newest finished one, oldest first.
select {job_columns}
from unnest(%(uids)s::text[]) as resource (uid)
cross join lateral (
    (
        select * from "workerJobs" as unfinished
        where unfinished."clusterId" = %(cluster_id)s and unfinished."resourceUid" = resource.uid
            and unfinished.finished is null
    )
    union all
    (
        select * from "workerJobs" as finished_job
        where finished_job."clusterId" = %(cluster_id)s and finished_job."resourceUid" = resource.uid
            and finished_job.finished is not null
        order by finished_job.id desc
        limit 1
    )
) as j
order by j.id
