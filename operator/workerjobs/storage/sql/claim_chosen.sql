-- Lease rows that were chosen under the locks of their limits, where they are still to be had. By id alone: see
-- settled_rows.sql.
with candidate as (
    select chosen.ctid as row_address
    from "workerJobs" as chosen
    where chosen.id = any(%(ids)s::bigint[]) and num_nonnulls(chosen.started, chosen.finished) = 0
    order by chosen.id
    for update skip locked
)
update "workerJobs" as j
set started = now(), "updatedAt" = now(), "leaseOwner" = %(owner)s, "leaseDeadline" = now() + %(lease)s,
    "fencingToken" = nextval('workerjobs.fencing_token'), progress = null
where j.ctid = any(array(select row_address from candidate))
returning {job_columns}
