-- Cron rows whose first tick is still to be found; of one line, one row. The tick is to come after the row was made, and
-- after every tick that the line has.
select distinct on (j."cronKey")
    j.id as job_id, j."cronSchedule" as cron_schedule, j."timeZone" as time_zone, j."cronKey" as cron_key,
    least(
        greatest(j."createdAt", (
            select max(earlier.tick)
            from "workerJobs" as earlier
            where earlier."cronKey" = j."cronKey"
                and not (
                    earlier.finished is not null and earlier.success = false
                    and (earlier.started is null or earlier."cancelRequested")
                )
        )),
        timestamptz '9999-12-30 00:00Z'
    ) as after
from "workerJobs" as j
where j.due = 'infinity' and j.tick is null and j."cronKey" is not null and j.started is null and j.finished is null
order by j."cronKey", j.id
limit %(limit)s
