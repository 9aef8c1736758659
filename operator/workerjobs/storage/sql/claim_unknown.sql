-- Lease due rows of types that no live worker of the pool knows, so that they can be failed. Types are found by jumping
-- through the index; behind keys only the first rows are looked at, the next ones once these are gone.
with recursive
known (type) as (
    select unnest(worker.types) from "workerJobWorkers" as worker
    where worker.pool = %(pool)s and worker."seenAt" > now() - %(lease)s
    union
    select unnest(%(types)s::text[])
),
pending_type (type) as (
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
            and following.pool = %(pool)s and following.type > pending_type.type
        order by following.type
        limit 1
    )
    from pending_type
    where pending_type.type is not null
),
key (name, number) as (
    (
        select first."concurrencyKey", 1 from "workerJobs" as first
        where first.started is null and first.finished is null and first."concurrencyKey" is not null
            and first.pool = %(pool)s
        order by first."concurrencyKey"
        limit 1
    )
    union all
    select (
        select following."concurrencyKey" from "workerJobs" as following
        where following.started is null and following.finished is null and following."concurrencyKey" is not null
            and following.pool = %(pool)s and following."concurrencyKey" > key.name
        order by following."concurrencyKey"
        limit 1
    ), key.number + 1
    from key
    where key.name is not null and key.number < 1000
),
unknown (id) as (
    select due_job.id
    from pending_type
    cross join lateral (
        select pending.id from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
            and pending.pool = %(pool)s and pending.type = pending_type.type and pending.due <= now()
        limit %(limit)s
    ) as due_job
    where pending_type.type not in (select known.type from known)
    union all
    select head.id
    from key
    cross join lateral (
        select pending.id, pending.type, pending.due from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending."concurrencyKey" = key.name
            and pending.pool = %(pool)s
        order by pending.priority desc, pending.due, pending.id
        limit 1
    ) as head
    where head.due <= now() and head.type not in (select known.type from known)
    limit %(limit)s
),
candidate as (
    select pending.id from "workerJobs" as pending
    where pending.id in (select id from unknown) and pending.started is null and pending.finished is null
        and not exists (
            select from "workerJobPauses" as pause
            where (pause.kind = 'pool' and pause.name = pending.pool)
                or (pause.kind = 'type' and pause.name = pending.type)
        )
    order by pending.id
    for update skip locked
)
update "workerJobs" as j
set started = now(), "updatedAt" = now(), "leaseOwner" = %(owner)s, "leaseDeadline" = now() + %(lease)s,
    "fencingToken" = nextval('workerjobs.fencing_token'), progress = null
where j.id in (select id from candidate)
returning {job_columns}
