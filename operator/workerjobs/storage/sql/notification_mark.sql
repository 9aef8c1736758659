-- All transactions below the mark are over, and all below the newest have begun.
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as mark,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint as newest
