-- Which workers of some pools run what, and since when the newest run of each type goes on.
select j."leaseOwner" as owner, j.type, count(*)::integer as running,
    extract(epoch from now() - max(j.started))::double precision as newest_seconds
from "workerJobs" as j
where j.started is not null and j.finished is null and j."leaseOwner" is not null and j.pool = any(%(pools)s::text[])
group by j."leaseOwner", j.type
order by j."leaseOwner", j.type
