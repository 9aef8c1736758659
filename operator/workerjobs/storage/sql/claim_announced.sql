-- Lease one row that was announced, where it may be claimed as `claim` would, without its search. By id alone: see
-- settled_rows.sql.
with candidate as (
    select pending.ctid as row_address
    from "workerJobs" as pending
    where pending.id = %(id)s::bigint and num_nonnulls(pending.started, pending.finished, pending."concurrencyKey") = 0
        and pending.pool = %(pool)s and pending.type = any(%(types)s::text[]) and {in_namespaces}
        and pending.due <= now()
        and not exists (
            select from "workerJobPauses" as pause where pause.kind = 'pool' and pause.name = %(pool)s
        )
        and not exists (
            select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = pending.type
        )
        and not exists (
            select from "workerJobLimits" as limited where limited.kind = 'type' and limited.name = pending.type
        )
    for update of pending skip locked
)
update "workerJobs" as j
set started = now(), "updatedAt" = now(), "leaseOwner" = %(owner)s, "leaseDeadline" = now() + %(lease)s,
    "fencingToken" = nextval('workerjobs.fencing_token'), progress = null
where j.ctid = any(array(select row_address from candidate))
returning {job_columns}
