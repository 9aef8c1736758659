-- Store how runs ended and insert the rows that follow.
with settled as (
    {settled_rows}
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
        -- Who scheduled the tag anew meanwhile meant to replace this job: its retry is dropped.
        and not (f.kind = 'retry' and s.tag is not null and {newer_of_tag})
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
    {freed_types}
)
select settled.id from settled cross join (select count(*) from freed) as told
