-- Lease due rows of types that no live worker of the pool knows, so that they can be failed. Types are found by jumping
-- through the indexes. For one lease after the server's start all workers count, as they could not show themselves.
with recursive
known (type) as (
    select unnest(worker.types) from "workerJobWorkers" as worker
    where worker.pool = %(pool)s and worker."seenAt" > {live_since} - %(lease)s
    union
    select unnest(%(types)s::text[])
),
plain_type (type) as (
    (
        select first.type from "workerJobs" as first
        where first.started is null and first.finished is null and first."concurrencyKey" is null
            and first.pool = %(pool)s
        order by first.type
        limit 1
    )
    union all
    select (
        select following.type from "workerJobs" as following
        where following.started is null and following.finished is null and following."concurrencyKey" is null
            and following.pool = %(pool)s and following.type > plain_type.type
        order by following.type
        limit 1
    )
    from plain_type
    where plain_type.type is not null
),
keyed_type (type) as (
    (
        select first.type from "workerJobs" as first
        where first.started is null and first.finished is null and first."concurrencyKey" is not null
            and first.pool = %(pool)s
        order by first.type
        limit 1
    )
    union all
    select (
        select following.type from "workerJobs" as following
        where following.started is null and following.finished is null and following."concurrencyKey" is not null
            and following.pool = %(pool)s and following.type > keyed_type.type
        order by following.type
        limit 1
    )
    from keyed_type
    where keyed_type.type is not null
),
unknown_type (type) as (
    select pending.type
    from (select plain_type.type from plain_type union select keyed_type.type from keyed_type) as pending
    where pending.type is not null
        and not exists (select from known where known.type = pending.type)
        and not exists (select from "workerJobPauses" as pause where pause.kind = 'pool' and pause.name = %(pool)s)
        and not exists (select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = pending.type)
),
unknown (row_address) as (
    select due_job.row_address
    from unknown_type
    cross join lateral (
        select pending.ctid as row_address from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
            and pending.pool = %(pool)s and pending.type = unknown_type.type and pending.due <= now()
        limit %(limit)s
        for update skip locked
    ) as due_job
    union all
    select due_job.row_address
    from unknown_type
    cross join lateral (
        select pending.ctid as row_address from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending."concurrencyKey" is not null
            and pending.pool = %(pool)s and pending.type = unknown_type.type and pending.due <= now()
        limit %(limit)s
        for update skip locked
    ) as due_job
    limit %(limit)s
)
update "workerJobs" as j
set started = now(), "updatedAt" = now(), "leaseOwner" = %(owner)s, "leaseDeadline" = now() + %(lease)s,
    "fencingToken" = nextval('workerjobs.fencing_token'), progress = null
where j.ctid = any(array(select row_address from unknown))
returning {job_columns}
