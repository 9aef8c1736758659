-- The mark is that of this statement's snapshot: what transactions below it announced is in the queue before this.
select pg_notify('workerNotifications', json_build_object(
    'kind', 'mark', 'mark', pg_snapshot_xmin(pg_current_snapshot())::text::bigint
)::text)
