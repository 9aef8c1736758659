-- Store how runs ended and insert the rows that follow. A stale token or a row that is finished changes nothing.
-- What a running row is stands in functions here, which hide it from the planner: with statistics from a moment when
-- nothing ran it would read the whole index of running rows for each outcome, dead entries and all (350 us a job).
with settled as (
    update "workerJobs" as j
    set finished = greatest(j.started, outcome.started, least(now(), coalesce(outcome.finished, now()))),
        "updatedAt" = now(),
        -- Until now the moment of the claim; the job may have waited behind others that its worker claimed with it.
        started = greatest(j.started, outcome.started),
        success = outcome.success, result = outcome.result::jsonb, "leaseDeadline" = null,
        "removeAt" = coalesce(j."removeAt", workerjobs.remove_at(j.due, j."removeDelay"))
    from (
        select id, token, success, result, to_timestamp(started / 1e6::double precision) as started,
            to_timestamp(finished / 1e6::double precision) as finished
        from unnest(
            %(ids)s::bigint[], %(tokens)s::bigint[], %(successes)s::boolean[], %(results)s::text[],
            %(starteds)s::bigint[], %(finisheds)s::bigint[]
        ) as outcome (id, token, success, result, started, finished)
    ) as outcome
    where j.id = outcome.id and j."fencingToken" = outcome.token and num_nonnulls(j.started) <> 0 and num_nulls(j.finished) <> 0
    returning j.*
),
followed as (
    insert into "workerJobs" ({follow_up_columns})
    select {follow_up_values}
    from settled as s
    join unnest(
        %(follow_ids)s::bigint[], %(follow_tokens)s::bigint[], %(follow_kinds)s::text[], %(follow_dues)s::timestamptz[],
        %(follow_attempts)s::int[], %(follow_cron_keys)s::text[], %(follow_traceparents)s::text[]
    ) as f (id, token, kind, due, attempt, cron_key, traceparent)
        -- The token as well: the same batch may hold a stale end of the same row, whose follow-ups are not wanted.
        on f.id = s.id and f.token = s."fencingToken"
    where
        -- A resource that was deleted while its job ran gets no further rows.
        not exists (
            select 1 from "workerJobResources" as r
            where r."clusterId" = s."clusterId" and r."resourceUid" = s."resourceUid" and r."deletedAt" is not null
        )
        -- Who scheduled the tag anew meanwhile meant to replace this job: its retry is dropped. The next row of its own
        -- line does not count.
        and not (f.kind = 'retry' and s.tag is not null and exists (
            select 1 from "workerJobs" as newer
            where newer.tag = s.tag and newer.started is null and newer.finished is null and newer.id > s.id
                and (s."cronSchedule" is null or newer."cronKey" is distinct from s."cronKey")
        ))
        -- The same for a cron line known by its tag: it goes on in the row that was scheduled anew.
        and not (f.kind = 'cron' and f.cron_key = 'tag:' || s.tag || ':' || s."cronSchedule" and exists (
            select 1 from "workerJobs" as newer
            where newer.tag = s.tag and newer.started is null and newer.finished is null and newer.id > s.id
                and newer."cronSchedule" is not null
        ))
        -- A line whose runs may overlap has its next row since this run began; one that ended meanwhile gets none.
        and not (f.kind = 'cron' and (s."isFollowed" or s."cronSchedule" is null))
        -- A job cancelled while it ran is not tried again.
        and not (f.kind = 'retry' and s."cancelRequested")
    on conflict ("cronKey", tick)
        where "cronKey" is not null
        and not (finished is not null and success = false and (started is null or "cancelRequested"))
        do nothing
),
freed as (
    -- Types with limits of their own have permits free now; for keys a trigger says it.
    select workerjobs.announce_type(own.name)
    from (select distinct type from settled) as ended
    join "workerJobLimits" as own on own.kind = 'type' and own.name = ended.type
)
select settled.id from settled cross join (select count(*) from freed) as told
