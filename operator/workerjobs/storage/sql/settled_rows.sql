/* How runs ended, stored. A stale token or a row that is finished changes nothing.
   What a running row is stands in functions here, which hide it from the planner: with statistics from a moment when
   nothing ran it would read the whole index of running rows for each outcome, dead entries and all (350 us a job). */
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
