-- Hold the pending rows of suspended resources back.
with pending as (
    select id
    from "workerJobs"
    where "clusterId" = %(cluster_id)s and "resourceUid" = any(%(uids)s) and started is null and finished is null
        and due <> 'infinity'
    order by id
    for update
)
update "workerJobs" as j
set "heldDue" = j.due, due = 'infinity', "updatedAt" = now()
from pending
where j.id = pending.id
