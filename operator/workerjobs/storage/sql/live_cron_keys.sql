-- Which of these cron lines have an unfinished row. One without a key, as other programs write them, belongs to the line
-- that its tag and schedule name.
select "cronKey" as cron_key from "workerJobs" where "cronKey" = any(%(cron_keys)s) and finished is null
union
select {tag_line} from "workerJobs" as j
where j."cronKey" is null and j.tag = any(%(tags)s) and j.started is null and j.finished is null
    and {tag_line} = any(%(cron_keys)s)
union
select {tag_line} from "workerJobs" as j
where j."cronKey" is null and j.tag = any(%(tags)s) and j.started is not null and j.finished is null
    and {tag_line} = any(%(cron_keys)s)
