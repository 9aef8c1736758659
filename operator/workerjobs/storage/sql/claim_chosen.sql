-- Lease rows that were chosen under the locks of their limits, where they are still to be had.
with candidate as (
    select id from "workerJobs"
    where id = any(%(ids)s::bigint[]) and num_nulls(started, finished) = 2
    order by id
    for update skip locked
)
update "workerJobs" as j
set started = now(), "updatedAt" = now(), "leaseOwner" = %(owner)s, "leaseDeadline" = now() + %(lease)s,
    "fencingToken" = nextval('workerjobs.fencing_token'), progress = null
where j.id in (select id from candidate)
returning {job_columns}
