-- What was written by transactions that were not over at a mark, newest first. The same snapshot gives the next mark.
(
    select n.id, n.user_id, n.data::text as data_json, n.read as is_read, n.created_at, n.updated_at,
        workerjobs.full_xid(n.xmin, pg_current_snapshot()) as mark
    from notifications as n
    where n.user_id = any(%(user_ids)s) and workerjobs.full_xid(n.xmin, pg_current_snapshot()) >= %(mark)s
    order by updated_at desc, id desc
    limit %(limit)s
)
union all
(
    select b.id, null, b.data::text, false, b."createdAt", b."createdAt",
        workerjobs.full_xid(b.xmin, pg_current_snapshot())
    from "workerBroadcasts" as b
    where workerjobs.full_xid(b.xmin, pg_current_snapshot()) >= %(mark)s
    order by b."createdAt" desc, b.id desc
    limit %(limit)s
)
