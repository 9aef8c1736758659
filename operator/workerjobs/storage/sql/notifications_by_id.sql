select n.id, n.user_id, n.data::text as data_json, n.read as is_read, n.created_at, n.updated_at,
    workerjobs.full_xid(n.xmin, pg_current_snapshot()) as mark
from notifications as n
where n.id = any(%(ids)s) and n.user_id = any(%(user_ids)s)
order by n.id
