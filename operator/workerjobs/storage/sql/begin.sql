-- Insert the next rows of cron lines whose runs begin now and may overlap, and ask the runs that these replace to cancel.
-- A stale token changes nothing, and a run that has its next row gets no other.
with begun as (
    select *, null::text as traceparent
    from unnest(
        %(ids)s::bigint[], %(tokens)s::bigint[], %(follow_kinds)s::text[], %(follow_dues)s::timestamptz[],
        %(follow_attempts)s::int[], %(follow_cron_keys)s::text[]
    ) as begun (id, token, kind, due, attempt, cron_key)
),
-- All rows that change are locked in one order, so that two workers can't wait for each other.
running as (
    select j.*
    from "workerJobs" as j
    where (j.id = any(%(ids)s::bigint[]) or j."cronKey" = any(%(replaced_keys)s::text[]))
        and j.started is not null and j.finished is null
    order by j.id
    for update
),
followed as (
    insert into "workerJobs" ({follow_up_columns})
    select {follow_up_values}
    from running as s
    join begun as f on f.id = s.id and f.token = s."fencingToken"
    where not s."isFollowed"
        -- The line ended meanwhile: its tag was scheduled anew, or its resource was deleted.
        and s."cronSchedule" is not null
        and not exists (
            select 1 from "workerJobResources" as r
            where r."clusterId" = s."clusterId" and r."resourceUid" = s."resourceUid" and r."deletedAt" is not null
        )
    on conflict ("cronKey", tick)
        where "cronKey" is not null
        and not (finished is not null and success = false and (started is null or "cancelRequested"))
        do nothing
)
update "workerJobs" as j
set "isFollowed" = j."isFollowed" or changed.is_begun,
    "cancelRequested" = j."cancelRequested" or changed.is_replaced,
    "updatedAt" = case when changed.is_replaced then now() else j."updatedAt" end
from (
    select
        running.id,
        exists (
            select 1 from begun where begun.id = running.id and begun.token = running."fencingToken"
        ) as is_begun,
        exists (
            select 1
            from running as newer
            join begun on begun.id = newer.id and begun.token = newer."fencingToken"
            where newer."cronKey" = running."cronKey" and newer."cronKey" = any(%(replaced_keys)s::text[])
                and newer.tick > running.tick
        ) as is_replaced
    from running
) as changed
where j.id = changed.id and (changed.is_begun or changed.is_replaced)
