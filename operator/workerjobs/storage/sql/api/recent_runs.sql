-- How the newest rows' runs went, by type.
select newest.type, count(*)::integer as runs, (count(*) filter (where not newest.success))::integer as failed,
    avg(newest.seconds)::double precision as mean_seconds,
    percentile_cont(0.95) within group (order by newest.seconds)::double precision as p95_seconds,
    max(newest.finished) as last_finished
from (
    select run.type, run.started, run.finished, run.success,
        extract(epoch from greatest(run.finished - run.started, interval '0')) as seconds
    from "workerJobs" as run
    order by run.id desc
    limit %(sample)s
) as newest
where newest.started is not null and newest.finished is not null
group by newest.type
order by newest.type
