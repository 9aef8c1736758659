-- How the runs of the newest rows ended, by slots of time.
select to_timestamp(newest.slot * %(seconds)s) as start,
    (count(*) filter (where newest.success))::integer as succeeded,
    (count(*) filter (where not newest.success and newest.ran and not newest.was_cancelled))::integer as failed,
    (count(*) filter (where not newest.success and (not newest.ran or newest.was_cancelled)))::integer as cancelled,
    percentile_cont(0.95) within group (order by newest.wait)::double precision as wait_p95_seconds,
    percentile_cont(0.95) within group (order by newest.run)::double precision as run_p95_seconds
from (
    select floor(extract(epoch from j.finished) / %(seconds)s)::double precision as slot, j.finished, j.success,
        j.started is not null as ran, j."cancelRequested" as was_cancelled,
        extract(epoch from greatest(j.started - j.due, interval '0')) as wait,
        extract(epoch from greatest(j.finished - j.started, interval '0')) as run
    from "workerJobs" as j
    order by j.id desc
    limit %(sample)s
) as newest
where newest.finished >= %(since)s
group by newest.slot
order by newest.slot
