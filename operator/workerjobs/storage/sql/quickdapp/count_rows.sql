-- The rows of the table to adopt by state, and the highest id.
select
    case
        when finished is null then case when started is null then 'pending' else 'running' end
        when success then 'succeeded'
        when started is null or started = finished then 'cancelled'
        else 'failed'
    end as state,
    count(*) as count
from worker_jobs
group by state
order by state
