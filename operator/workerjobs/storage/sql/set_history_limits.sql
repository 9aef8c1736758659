insert into "workerJobResourceStates" ("clusterId", "resourceUid", "historyLimit")
select %(cluster_id)s, uid, history_limit
from unnest(%(uids)s::text[], %(limits)s::integer[]) as resource (uid, history_limit)
order by uid
on conflict ("clusterId", "resourceUid") do update set "historyLimit" = excluded."historyLimit"
