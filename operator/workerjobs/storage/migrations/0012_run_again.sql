-- What a row is run again with stands in one place, for a retry by hand and for a cron line's run beside it.

-- A plain job as the row asks for it, for store_jobs: it belongs to no cron line, and is due now.
create function workerjobs.again(
    j "workerJobs", rescheduled_from_job bigint, traceparent text default null, is_superseded boolean default null
) returns json
language sql stable as $$
    select row_to_json(line)
    from (
        select
            j.type, j.data, j."userId" as user_id, j.tag, j.persistent, j.priority, j.pool,
            j."timeoutMs" as timeout_ms, j."removeDelay" as remove_delay_ms,
            j."autoRescheduleOnFailure" as auto_reschedule_on_failure,
            j."autoRescheduleOnFailureDelay" as auto_reschedule_on_failure_delay_ms,
            j."retryLimit" as retry_limit, j."retryInitialDelay" as retry_initial_delay_ms,
            j."retryFactor" as retry_factor, j."retryMaxDelay" as retry_max_delay_ms,
            j."retryJitter" as retry_jitter, j."concurrencyKey" as concurrency_key,
            j."concurrencyLimit" as concurrency_limit, j."rateLimit" as rate_limit, j."ratePeriod" as rate_period_ms,
            j."dataFrom" as data_from, j."clusterId" as cluster_id, j.namespace, j."resourceName" as resource_name,
            j."resourceUid" as resource_uid, j."resourceGeneration" as resource_generation,
            again.rescheduled_from_job, again.traceparent, again.is_superseded
    ) as line
$$;

create or replace function workerjobs.retry_jobs(ids bigint[]) returns setof "workerJobs"
language plpgsql set search_path from current as $$
declare
    named text;
begin
    select string_agg(coalesce(given::text, 'null'), ', ' order by given) into named
    from unnest(ids) as given
    where not exists (select from "workerJobs" as j where j.id = given);
    if named is not null then
        raise exception using errcode = 'no_data_found', message = 'there is no job ' || named,
            hint = 'Finished jobs are removed after their removeDelay; submit it anew.';
    end if;
    select string_agg(j.id::text, ', ' order by j.id) into named
    from "workerJobs" as j
    where j.id = any(ids) and j.finished is null;
    if named is not null then
        perform workerjobs.refuse(
            format('not finished: job %s', named), 'Only finished jobs can be run again; cancel it first.'
        );
    end if;
    select string_agg(j.id::text, ', ' order by j.id) into named
    from "workerJobs" as j
    join "workerJobResources" as r on r."clusterId" = j."clusterId" and r."resourceUid" = j."resourceUid"
    where j.id = any(ids) and r."deletedAt" is not null;
    if named is not null then
        perform workerjobs.refuse(
            format('the WorkerJob of job %s was deleted', named), 'Apply it again, or submit the job anew.'
        );
    end if;
    return query
    select stored.*
    from workerjobs.store_jobs(
        (
            select json_agg(line.again order by line.id)
            from (
                select j.id, workerjobs.again(
                    j, j.id, j.traceparent,
                    j.tag is not null and lead(j.id) over (partition by j.tag order by j.id) is not null
                ) as again
                from "workerJobs" as j
                where j.id = any(ids)
            ) as line
        ),
        array(select distinct j.tag from "workerJobs" as j where j.id = any(ids) and j.tag is not null)
    ) as stored;
end $$;
