select b.id, null::integer as user_id, b.data::text as data_json, false as is_read, b."createdAt" as created_at,
    b."createdAt" as updated_at, workerjobs.full_xid(b.xmin, pg_current_snapshot()) as mark
from "workerBroadcasts" as b
where b.id = any(%(ids)s)
order by b.id
