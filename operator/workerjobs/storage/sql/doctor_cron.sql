-- Cron lines: their unfinished rows, and the last rows of lines that should have an unfinished one and have not. The
-- lines are found by jumping through the index of ticks, whatever the number of finished rows.
with recursive line (cron_key) as (
    (
        select "cronKey" from "workerJobs"
        where "cronKey" is not null
            and not (finished is not null and success = false and (started is null or "cancelRequested"))
        order by "cronKey"
        limit 1
    )
    union all
    select (
        select next."cronKey" from "workerJobs" as next
        where next."cronKey" > line.cron_key
            and not (next.finished is not null and next.success = false
                and (next.started is null or next."cancelRequested"))
        order by next."cronKey"
        limit 1
    )
    from line
    where line.cron_key is not null
),
unfinished as (
    select * from "workerJobs" where started is null and finished is null and "cronSchedule" is not null
    union all
    select * from "workerJobs" where started is not null and finished is null and "cronSchedule" is not null
)
select id as job_id, "cronKey" as key, type, "cronSchedule" as schedule, "timeZone" as time_zone, true as is_unfinished,
    case when started is null and due < now() then now() - greatest(due, now() - interval '100 years')
        else interval '0'
    end as late
from unfinished
union all
select last.id, last."cronKey", last.type, last."cronSchedule", last."timeZone", false, interval '0'
from line
cross join lateral (
    select * from "workerJobs" as j
    where j."cronKey" = line.cron_key
        and not (j.finished is not null and j.success = false and (j.started is null or j."cancelRequested"))
    order by j.tick desc
    limit 1
) as last
where last.finished < now() - interval '10 seconds' and last."cronSchedule" is not null
    and not exists (
        select 1 from "workerJobs" as live where live."cronKey" = line.cron_key and live.finished is null
    )
    -- Someone cancelled what should have followed, and with it the line.
    and not exists (
        select 1 from "workerJobs" as cancelled where cancelled.id > last.id and cancelled."cronKey" = line.cron_key
    )
    and not exists (
        select 1 from "workerJobResources" as r
        where r."clusterId" = last."clusterId" and r."resourceUid" = last."resourceUid" and r."deletedAt" is not null
    )
order by job_id
