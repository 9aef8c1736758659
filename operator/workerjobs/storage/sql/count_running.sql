-- Rows that hold a permit: those that run under a live lease. For one lease after the server's start all count, as owners
-- could not renew.
with live as (
    select type, "concurrencyKey"
    from "workerJobs"
    where started is not null and finished is null
        and ("leaseDeadline" is null or "leaseDeadline" > now() or now() - pg_postmaster_start_time() < %(lease)s)
        and ("concurrencyKey" = any(%(keys)s::text[]) or type = any(%(types)s::text[]))
)
select 'key' as kind, "concurrencyKey" as name, count(*) as running
from live
where "concurrencyKey" = any(%(keys)s::text[])
group by "concurrencyKey"
union all
select 'type', type, count(*) from live where type = any(%(types)s::text[]) group by type
