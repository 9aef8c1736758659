-- Run the job of a cron line now, beside the line: a plain job that names the line's last run, and cancels nothing by its
-- tag.
select {job_columns}
from workerjobs.store_jobs(
    (
        select json_agg(line.again)
        from (
            select workerjobs.again(j, (
                select run.id
                from "workerJobs" as run
                where run."cronKey" = j."cronKey" and run.finished is not null
                    and not (run.success = false and (run.started is null or run."cancelRequested"))
                order by run.tick desc
                limit 1
            )) as again
            from "workerJobs" as j
            where j."cronSchedule" is not null and j.finished is null and {cron_line} = %(key)s
            order by j.id
            limit 1
        ) as line
    )
) as j
