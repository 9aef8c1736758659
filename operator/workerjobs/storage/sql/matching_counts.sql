/* What a change by filter would reach: counts by type, and the oldest ids. */
select (select count(*) from found)::integer as count,
    (
        select coalesce(jsonb_object_agg(by_type.type, by_type.count), '{}')
        from (select found.type, count(*) as count from found group by found.type) as by_type
    ) as types,
    (select count(*) from found where found.is_cron)::integer as cron_jobs,
    array(select found.id from found order by found.id limit %(limit)s) as ids,
    (select max(found.id) + 1 from found) as before
