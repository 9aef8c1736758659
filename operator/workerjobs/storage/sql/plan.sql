-- Write first ticks into cron rows that wait for them; a row without one has failed. Rows that another worker plans now,
-- or that were cancelled, are left alone. It fails a moment after it began: a job that begins and ends at once is one that
-- QuickDapp's server cancelled, see quickdapp/create_view.sql.
with target as (
    select j.id, planned.tick, planned.result
    from unnest(%(ids)s::bigint[], %(ticks)s::timestamptz[], %(results)s::text[]) as planned (id, tick, result)
    join "workerJobs" as j on j.id = planned.id
    where j.due = 'infinity' and j.tick is null and j."cronKey" is not null
        and j.started is null and j.finished is null
    for update of j skip locked
)
update "workerJobs" as j
set due = coalesce(target.tick, now()), tick = target.tick, "updatedAt" = now(),
    "removeAt" = workerjobs.remove_at(coalesce(target.tick, now()), j."removeDelay"),
    started = case when target.tick is null then now() end,
    finished = case when target.tick is null then now() + interval '1 microsecond' end,
    success = case when target.tick is null then false end, result = target.result::jsonb
from target
where j.id = target.id
returning {job_columns}
