-- Lease due jobs: highest priority first, then due, then id. Each type and priority is read only as far as its rows are
-- due and wanted. Where there are several of them, a first look without locks says how many rows of each are among the
-- first; only so many are locked.
with recursive {runnable_levels},
share (type, priority, jobs) as (
    select level.type, level.priority, %(limit)s::bigint
    from level
    where level.priority is not null and (select count(*) from level where level.priority is not null) = 1
    union all
    select head.type, head.priority, count(*)
    from (
        select level.type, level.priority, due_job.due, due_job.id
        from level
        cross join lateral (
            select pending.due, pending.id
            from "workerJobs" as pending
            where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
                and pending.pool = %(pool)s and pending.type = level.type and pending.priority = level.priority
                and {in_namespaces}
                and pending.due <= coalesce(%(now)s::timestamptz, now())
            order by pending.due, pending.id
            limit %(limit)s
        ) as due_job
        where level.priority is not null and (select count(*) from level where level.priority is not null) > 1
        order by level.priority desc, due_job.due, due_job.id
        limit %(limit)s
    ) as head
    group by head.type, head.priority
),
candidate as (
    select due_job.row_address
    from share
    cross join lateral (
        select pending.ctid as row_address
        from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
            and pending.pool = %(pool)s and pending.type = share.type and pending.priority = share.priority
            and {in_namespaces}
            and pending.due <= coalesce(%(now)s::timestamptz, now())
        order by pending.due, pending.id
        limit share.jobs
        for update skip locked
    ) as due_job
)
update "workerJobs" as j
set started = now(), "updatedAt" = now(), "leaseOwner" = %(owner)s, "leaseDeadline" = now() + %(lease)s,
    "fencingToken" = nextval('workerjobs.fencing_token'), progress = null
-- By address: a join could be planned as a scan of the whole table.
where j.ctid = any(array(select row_address from candidate))
returning {job_columns}
