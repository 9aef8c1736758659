-- A lease is rescued within 5 s, after an outage or where the first worker has just started within 20 s.
select count(*) filter (where "leaseDeadline" < now() - interval '30 seconds') as expired,
    count(*) filter (where "leaseDeadline" is null and started < now() - interval '31 minutes') as without_lease
from "workerJobs"
where started is not null and finished is null
