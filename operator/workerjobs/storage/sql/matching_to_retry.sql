with found as materialized (
    select near.id, near.type, near.is_cron from {retriable} as near order by near.id limit %(most)s
)
{matching_counts}
