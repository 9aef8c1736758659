-- The runs that led to a row and those that followed it, up to so many in each direction: retries, runs by hand, and runs
-- of a cron line each name the one before them. A row never names a later one, so that nothing goes round in circles.
with recursive before (id, step) as (
    select j."rescheduledFromJob", 1 from "workerJobs" as j
    where j.id = %(id)s and j."rescheduledFromJob" < j.id
    union all
    select j."rescheduledFromJob", before.step + 1
    from before
    join "workerJobs" as j on j.id = before.id
    where j."rescheduledFromJob" < j.id and before.step < %(most)s
),
after (id, step) as (
    select %(id)s::bigint, 0
    union all
    select following.id, after.step + 1
    from after
    cross join lateral (
        select j.id from "workerJobs" as j
        where j."rescheduledFromJob" = after.id and j.id > after.id
        order by j.id
        limit 10
    ) as following
    where after.step < %(most)s
)
select {summary_columns}
from "workerJobs" as j
where j.id in (
    select before.id from before
    union all
    -- Generation by generation, and no further than needed.
    (select after.id from after limit %(most)s + 1)
)
order by j.id
