-- Jobs that hold a permit of a key or a type: those that run under a live lease.
select 'key' as kind, named.key as name, (
    select count(*) from "workerJobs" as j
    where j.started is not null and j.finished is null and j."concurrencyKey" = named.key and j."leaseDeadline" > {live_since}
) as running
from unnest(%(keys)s::text[]) as named (key)
union all
select 'type', j.type, count(*)
from "workerJobs" as j
where j.started is not null and j.finished is null and j."leaseDeadline" > {live_since}
    and j.type = any(%(types)s::text[])
group by j.type
