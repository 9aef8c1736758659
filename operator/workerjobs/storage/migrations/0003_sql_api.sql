-- Submitting, scheduling, cancelling and retrying as functions, for any language and inside the caller's transaction.
-- Python, the commands and the operator go through the same ones.
--
-- They run with the caller's rights, and with the search path that the tables were made in: the caller's own does not
-- matter. Where a lock decides, the statement after it is one of its own, so that it sees what the last holder committed.

-- A cron row whose first tick is still to be found, because only workers read schedules: due at infinity, with a
-- cronKey and without a tick.
create index "workerJobs_unplanned" on "workerJobs" ("cronKey", id)
    where due = 'infinity' and tick is null and "cronKey" is not null and started is null and finished is null;

-- Announcements, over the same channel as before:
--   plan      {"kind": "plan"}: a cron row waits for its first tick

-- A job to store, as a JSON object has it; null means not given.
create type workerjobs.new_job as (
    type text,
    data json,
    user_id integer,
    due timestamptz,
    tag text,
    cron_schedule text,
    time_zone text,
    cron_key text,
    tick timestamptz,
    persistent boolean,
    priority integer,
    pool text,
    timeout_ms integer,
    remove_delay_ms integer,
    auto_reschedule_on_failure boolean,
    auto_reschedule_on_failure_delay_ms integer,
    retry_limit integer,
    retry_initial_delay_ms integer,
    retry_factor double precision,
    retry_max_delay_ms integer,
    retry_jitter double precision,
    catch_up text,
    concurrency_policy text,
    concurrency_key text,
    concurrency_limit integer,
    rate_limit integer,
    rate_period_ms integer,
    traceparent text,
    data_from jsonb,
    rescheduled_from_job bigint,
    -- A later job of the same call has its tag: stored as cancelled.
    is_superseded boolean,
    cluster_id text,
    namespace text,
    resource_name text,
    resource_uid text,
    resource_generation bigint
);

-- The table's name as the caller has to write it, for COPY.
create function workerjobs.jobs_table() returns regclass
language sql stable set search_path from current as $$
    select '"workerJobs"'::regclass
$$;

create function workerjobs.refuse(problem text, accepted text) returns void
language plpgsql as $$
begin
    raise exception using errcode = 'invalid_parameter_value', message = problem, hint = accepted;
end $$;

-- Serialise transactions that work on the same names, until they end; sorted, so that two of them can't deadlock.
create function workerjobs.lock_names(kind text, names text[]) returns void
language plpgsql as $$
declare
    every_name constant bigint := hashtextextended(kind, 0);
    name text;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception using
            errcode = 'feature_not_supported',
            message = format(
                'a job with a %s can''t be stored in a %s transaction',
                case kind when 'cron' then 'key' else kind end, upper(current_setting('transaction_isolation'))
            ),
            detail = 'Jobs that others stored since the transaction began are invisible to it and would stay pending.',
            hint = 'Use READ COMMITTED for this transaction, or leave the '
                || case kind when 'cron' then 'key' else kind end || ' out.';
    end if;
    -- A transaction can't hold a lock for each of very many names: Postgres has room for some thousands in all.
    if cardinality(names) > 500 then
        perform pg_advisory_xact_lock(every_name);
        return;
    end if;
    perform pg_advisory_xact_lock_shared(every_name);
    for name in select distinct unnest(names) as given order by given loop
        perform pg_advisory_xact_lock(hashtextextended(kind || ':' || name, 0));
    end loop;
end $$;

-- Keep others from pausing cron lines until this transaction ends. Whoever replaces a row of a line does so before it locks
-- the row, as the row that it stores then needs that (0011: workerjobs.hold_suspended): who pauses locks them in this order.
create function workerjobs.hold_off_pauses() returns void
language sql as $$
    select pg_advisory_xact_lock_shared(hashtextextended('workerjobs cron pauses', 0))
$$;

-- Cancel what is pending under these tags, and keep others from storing jobs of them until this transaction ends.
-- Running jobs go on; those of the cron tags are replaced by other cron jobs, and their lines get no next row. Where lines
-- are spared, their pending rows stay.
create function workerjobs.replace_tags(
    tags text[], cron_tags text[] default '{}', spares_lines boolean default false
) returns void
language plpgsql set search_path from current as $$
begin
    perform workerjobs.lock_names('tag', tags);
    if cardinality(cron_tags) > 0 then
        perform workerjobs.hold_off_pauses();
    end if;
    -- Twice for lines: a run that was being settled during the first pass may have left a row that the second one sees.
    for pass in 1 .. case when cardinality(cron_tags) > 0 then 2 else 1 end loop
        with target as (
            select id, started is null as is_pending from "workerJobs"
            where finished is null
                and (
                    (started is null and tag = any(tags) and not (spares_lines and "cronSchedule" is not null))
                    or (started is not null and "cronSchedule" is not null and tag = any(cron_tags))
                )
            order by id
            for update
        )
        update "workerJobs" as j
        set finished = case when target.is_pending then now() end,
            success = case when target.is_pending then false end,
            result = case
                when target.is_pending then '{"error": "Job cancelled due to new job being created"}' else j.result
            end,
            "removeAt" = coalesce(j."removeAt", workerjobs.remove_at(j.due, j."removeDelay")),
            "cronSchedule" = case when target.is_pending then j."cronSchedule" end,
            "updatedAt" = now()
        from target
        where j.id = target.id;
    end loop;
end $$;

-- Store jobs given as a JSON array of workerjobs.new_job, in its order. What is pending under the replaced tags is
-- cancelled first. A tick that another worker inserted first is left out.
create function workerjobs.store_jobs(jobs json, replaced_tags text[] default '{}') returns setof "workerJobs"
language plpgsql set search_path from current as $$
begin
    if cardinality(replaced_tags) > 0 then
        perform workerjobs.replace_tags(replaced_tags, array(
            select distinct job.tag from json_populate_recordset(null::workerjobs.new_job, jobs) as job
            where job.tag = any(replaced_tags) and job.cron_schedule is not null
        ));
    end if;
    return query
    insert into "workerJobs" as j (
        type, "userId", data, due, tag, "cronSchedule", "timeZone", "cronKey", tick, persistent, priority, pool,
        "timeoutMs", "removeDelay", "removeAt", "autoRescheduleOnFailure", "autoRescheduleOnFailureDelay", "retryLimit",
        "retryInitialDelay", "retryFactor", "retryMaxDelay", "concurrencyKey", "concurrencyLimit", "rateLimit",
        "ratePeriod", traceparent, "dataFrom", "rescheduledFromJob", "clusterId", namespace, "resourceName",
        "resourceUid", "resourceGeneration", finished, success, result, "retryJitter", "catchUp", "concurrencyPolicy"
    )
    select
        job.type, coalesce(job.user_id, 0), coalesce(job.data, '{}'),
        case when job.cron_schedule is not null and job.tick is null then 'infinity' else coalesce(job.due, now()) end,
        job.tag, job.cron_schedule, job.time_zone, job.cron_key, job.tick, coalesce(job.persistent, false),
        coalesce(job.priority, 0), coalesce(job.pool, 'default'), job.timeout_ms, coalesce(job.remove_delay_ms, 0),
        workerjobs.remove_at(coalesce(job.due, now()), coalesce(job.remove_delay_ms, 0)),
        coalesce(job.auto_reschedule_on_failure, false), coalesce(job.auto_reschedule_on_failure_delay_ms, 0),
        job.retry_limit, job.retry_initial_delay_ms, job.retry_factor, job.retry_max_delay_ms, job.concurrency_key,
        job.concurrency_limit, job.rate_limit, job.rate_period_ms, job.traceparent, job.data_from,
        job.rescheduled_from_job, job.cluster_id, job.namespace, job.resource_name, job.resource_uid,
        job.resource_generation,
        case when job.is_superseded then now() end, case when job.is_superseded then false end,
        case when job.is_superseded then jsonb '{"error": "Job cancelled due to new job being created"}' end,
        job.retry_jitter, case when job.cron_schedule is not null then coalesce(job.catch_up, 'none') end,
        case when job.cron_schedule is not null then coalesce(job.concurrency_policy, 'Forbid') end
    from json_populate_recordset(null::workerjobs.new_job, jobs) with ordinality as job
    order by job.ordinality
    on conflict ("cronKey", tick)
        where "cronKey" is not null
        and not (finished is not null and success = false and (started is null or "cancelRequested"))
        do nothing
    returning j.*;
end $$;

-- End a cron line, under its lock: its pending rows are cancelled, its running ones get no next tick. Twice, so that a
-- row is not missed that was being claimed during the first pass, or that followed one that was being settled.
create function workerjobs.end_line(key text, reason text) returns setof bigint
language plpgsql set search_path from current as $$
begin
    perform workerjobs.lock_names('cron', array[key]);
    for pass in 1 .. 2 loop
        update "workerJobs" as j
        set "cronSchedule" = null, "updatedAt" = now()
        where j."cronKey" = key and j.started is not null and j.finished is null and j."cronSchedule" is not null;
        return query
        update "workerJobs" as j
        set finished = now(), success = false, "updatedAt" = now(),
            "removeAt" = coalesce(j."removeAt", workerjobs.remove_at(j.due, j."removeDelay")),
            result = jsonb_build_object('error', reason)
        where j."cronKey" = key and j.started is null and j.finished is null
        returning j.id;
    end loop;
end $$;

-- Store a cron job in place of the one that its key has now. An unfinished row that says the same stays and is returned.
create function workerjobs.store_line(given json) returns setof "workerJobs"
language plpgsql set search_path from current as $$
declare
    job constant workerjobs.new_job := json_populate_record(null::workerjobs.new_job, given);
begin
    perform workerjobs.lock_names('cron', array[job.cron_key]);
    perform workerjobs.hold_off_pauses();
    return query
    select j.*
    from "workerJobs" as j
    where j."cronKey" = job.cron_key and j.finished is null
        and (
            j.type, j.data::text, j."cronSchedule", j."timeZone", j.tag, j."userId", j.persistent, j.priority, j.pool,
            j."timeoutMs", j."removeDelay", j."autoRescheduleOnFailure", j."autoRescheduleOnFailureDelay",
            j."retryLimit", j."retryInitialDelay", j."retryFactor", j."retryMaxDelay", j."concurrencyKey",
            j."concurrencyLimit", j."rateLimit", j."ratePeriod", j."retryJitter", j."catchUp", j."concurrencyPolicy"
        ) is not distinct from (
            job.type, coalesce(job.data, '{}')::text, job.cron_schedule, job.time_zone, job.tag,
            coalesce(job.user_id, 0), coalesce(job.persistent, false), coalesce(job.priority, 0)::smallint,
            coalesce(job.pool, 'default'), job.timeout_ms, coalesce(job.remove_delay_ms, 0),
            coalesce(job.auto_reschedule_on_failure, false), coalesce(job.auto_reschedule_on_failure_delay_ms, 0),
            job.retry_limit, job.retry_initial_delay_ms, job.retry_factor, job.retry_max_delay_ms, job.concurrency_key,
            job.concurrency_limit, job.rate_limit, job.rate_period_ms, job.retry_jitter,
            coalesce(job.catch_up, 'none'), coalesce(job.concurrency_policy, 'Forbid')
        )
    order by j.id desc
    limit 1;
    if not found then
        perform workerjobs.end_line(job.cron_key, 'Job cancelled due to new job being created');
        return query
        select * from workerjobs.store_jobs(json_build_array(given), array_remove(array[job.tag], null));
    end if;
end $$;

-- Cancel pending rows and ask running ones to stop; returns those that were not finished. The rows are locked first:
-- whether one is running is decided by what it is when the lock is held, not by what it was when the statement began.
create function workerjobs.cancel_jobs(ids bigint[], reason text) returns setof "workerJobs"
language sql set search_path from current as $$
    with target as (
        select id, started is null as is_pending
        from "workerJobs"
        where id = any(ids) and finished is null
        order by id
        for update
    )
    update "workerJobs" as j
    set "cancelRequested" = true, "updatedAt" = now(),
        "removeAt" = coalesce(j."removeAt", workerjobs.remove_at(j.due, j."removeDelay")),
        finished = case when target.is_pending then now() end,
        success = case when target.is_pending then false end,
        result = case when target.is_pending then jsonb_build_object('error', reason) else j.result end
    from target
    where j.id = target.id
    returning j.*
$$;

create function workerjobs.unfinished_of_tag(tag text) returns bigint[]
language sql stable set search_path from current as $$
    select array(
        select j.id from "workerJobs" as j where j.tag = $1 and j.started is null and j.finished is null
        union all
        select j.id from "workerJobs" as j where j.tag = $1 and j.started is not null and j.finished is null
    )
$$;

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

-- Run finished jobs again, now, each as a new row that names the old one; all of them or none. As after any submit,
-- what is pending under their tags is cancelled, but for cron lines: they go on beside it, as beside the retries that follow
-- failures. The new rows belong to no line.
create function workerjobs.retry_jobs(ids bigint[]) returns setof "workerJobs"
language plpgsql set search_path from current as $$
declare
    named text;
    tags text[];
    jobs json;
begin
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
    tags := array(select distinct j.tag from "workerJobs" as j where j.id = any(ids) and j.tag is not null);
    if cardinality(tags) > 0 then
        perform workerjobs.replace_tags(tags, spares_lines => true);
    end if;
    select json_agg(line.again order by line.id) into jobs
    from (
        select j.id, workerjobs.again(
            j, j.id, j.traceparent,
            j.tag is not null and lead(j.id) over (partition by j.tag order by j.id) is not null
        ) as again
        from "workerJobs" as j
        where j.id = any(ids)
    ) as line;
    -- Looked for after they were copied: none is left out that was removed meanwhile, while a tag was waited for.
    select string_agg(coalesce(given::text, 'null'), ', ' order by given) into named
    from unnest(ids) as given
    where not exists (select from "workerJobs" as j where j.id = given);
    if named is not null then
        raise exception using errcode = 'no_data_found', message = 'there is no job ' || named,
            hint = 'Finished jobs are removed after their removeDelay; submit it anew.';
    end if;
    return query select * from workerjobs.store_jobs(jobs);
end $$;

-- What follows is for callers in SQL.

create function workerjobs.check_name(what text, value text) returns void
language plpgsql as $$
begin
    if value !~ '\S' then
        perform workerjobs.refuse(format('%s is empty', what), 'Give a text that is not empty.');
    elsif length(value) > 250 then
        perform workerjobs.refuse(format('%s has %s characters', what, length(value)), 'At most 250 are accepted.');
    elsif value ~ '[[:cntrl:]]' then
        perform workerjobs.refuse(
            format('%s has control characters: %s', what, quote_literal(value)), 'Line ends and tabs are not accepted.'
        );
    end if;
end $$;

create function workerjobs.check_number(what text, value integer, low integer, high integer) returns void
language plpgsql as $$
begin
    if value not between low and high then
        perform workerjobs.refuse(format('%s is %s', what, value), format('Give a number from %s to %s.', low, high));
    end if;
end $$;

create function workerjobs.check_data(data json) returns void
language plpgsql as $$
begin
    if json_typeof(data) <> 'object' then
        perform workerjobs.refuse(
            format('data is of type %s', json_typeof(data)), 'Give a JSON object, such as {} or json_build_object(…).'
        );
    elsif octet_length(data::text) > 1048576 then
        perform workerjobs.refuse(
            format('data has %s bytes of JSON', octet_length(data::text)), 'At most 1048576 are accepted (1 MiB).'
        );
    elsif data::text like '%\\u%' or length(data::text) > 200 then
        -- The type json takes what can't be read later: NUL characters, half surrogate pairs, any depth.
        begin
            if data::jsonb @? 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")' then
                perform workerjobs.refuse('data is nested deeper than 100 levels', 'Give flatter data.');
            end if;
        exception
            when untranslatable_character or invalid_text_representation or numeric_value_out_of_range then
                perform workerjobs.refuse(
                    'data can''t be stored: ' || sqlerrm, 'Accepted is what the type jsonb takes, too.'
                );
        end;
    end if;
end $$;

-- See that a job can be stored and run; returns it with the defaults of its retries.
create function workerjobs.checked(job workerjobs.new_job) returns workerjobs.new_job
language plpgsql as $$
begin
    if job.type is null then
        perform workerjobs.refuse('type is missing', 'Give the job''s type.');
    end if;
    perform workerjobs.check_name('type', job.type);
    perform workerjobs.check_name('tag', job.tag);
    perform workerjobs.check_name('pool', job.pool);
    perform workerjobs.check_name('key', job.cron_key);
    perform workerjobs.check_name('concurrency_key', job.concurrency_key);
    perform workerjobs.check_number('user_id', job.user_id, 0, 2147483647);
    perform workerjobs.check_number('priority', job.priority, -32768, 32767);
    perform workerjobs.check_number('timeout_ms', job.timeout_ms, 1, 2147483647);
    perform workerjobs.check_number('remove_delay_ms', job.remove_delay_ms, 0, 2147483647);
    perform workerjobs.check_number(
        'auto_reschedule_on_failure_delay_ms', job.auto_reschedule_on_failure_delay_ms, 0, 2147483647
    );
    perform workerjobs.check_number('retry_limit', job.retry_limit, 0, 1000000);
    perform workerjobs.check_number('retry_initial_delay_ms', job.retry_initial_delay_ms, 0, 2147483647);
    perform workerjobs.check_number('retry_max_delay_ms', job.retry_max_delay_ms, 0, 2147483647);
    perform workerjobs.check_number('concurrency_limit', job.concurrency_limit, 1, 1000000);
    perform workerjobs.check_number('rate_limit', job.rate_limit, 1, 1000000);
    perform workerjobs.check_number('rate_period_ms', job.rate_period_ms, 1, 2147483647);
    if not job.retry_factor between 1 and 1000 then
        perform workerjobs.refuse(format('retry_factor is %s', job.retry_factor), 'Give a number from 1 to 1000.');
    end if;
    if not job.retry_jitter between 0 and 1 then
        perform workerjobs.refuse(format('retry_jitter is %s', job.retry_jitter), 'Give a number from 0 to 1.');
    end if;
    if job.catch_up not in ('none', 'latest', 'all') then
        perform workerjobs.refuse(
            format('catch_up is %s', quote_literal(job.catch_up)), 'Accepted are none, latest and all.'
        );
    elsif job.concurrency_policy not in ('Allow', 'Forbid', 'Replace') then
        perform workerjobs.refuse(
            format('concurrency_policy is %s', quote_literal(job.concurrency_policy)),
            'Accepted are Allow, Forbid and Replace.'
        );
    end if;
    if job.retry_limit is not null then
        job.retry_initial_delay_ms := coalesce(job.retry_initial_delay_ms, 10000);
        job.retry_factor := coalesce(job.retry_factor, 2);
        job.retry_max_delay_ms := coalesce(job.retry_max_delay_ms, 3600000);
        job.retry_jitter := coalesce(job.retry_jitter, 0);
    elsif coalesce(job.retry_initial_delay_ms, job.retry_factor, job.retry_max_delay_ms, job.retry_jitter) is not null
    then
        perform workerjobs.refuse('retry_limit is missing', 'Give it beside the other retry settings.');
    end if;
    if job.concurrency_key is null
        and coalesce(job.concurrency_limit, job.rate_limit, job.rate_period_ms) is not null
    then
        perform workerjobs.refuse('concurrency_key is missing', 'Give the key whose jobs share the limits.');
    elsif (job.rate_limit is null) <> (job.rate_period_ms is null) then
        perform workerjobs.refuse(
            'rate_limit and rate_period_ms go together', 'Give both: so many starts in each period.'
        );
    end if;
    return job;
end $$;

-- See that a schedule has the right shape; what it means, workers find out (operator/workerjobs/domain/schedule.py).
create function workerjobs.check_cron(cron text, time_zone text) returns void
language plpgsql as $$
declare
    names constant text[] := array[
        '@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly', '@minutely', '@secondly'
    ];
    fields constant text[] := regexp_split_to_array(btrim(cron, E' \t\r\n'), '\s+');
    field text;
begin
    if cron is null or cron !~ '\S' then
        perform workerjobs.refuse('cron is missing', 'Give a schedule, such as ''0 8 * * MON-FRI'' or ''@hourly''.');
    elsif length(cron) > 200 then
        perform workerjobs.refuse(format('cron has %s characters', length(cron)), 'At most 200 are accepted.');
    elsif fields[1] like '@%' then
        if cardinality(fields) > 1 or lower(fields[1]) <> all (names) then
            perform workerjobs.refuse(
                format('cron %s is unknown', quote_literal(cron)),
                format('Accepted are %s.', array_to_string(names, ', '))
            );
        end if;
    elsif cardinality(fields) not in (5, 6) then
        perform workerjobs.refuse(
            format('cron %s has %s field(s)', quote_literal(cron), cardinality(fields)),
            'Accepted are five (minute, hour, day of month, month, day of week), six with the second first, and names '
            'such as @hourly.'
        );
    else
        foreach field in array fields loop
            if field !~ '^[0-9A-Za-z*?/,#()-]+$' then
                perform workerjobs.refuse(
                    format('cron %s, field %s can''t be read', quote_literal(cron), quote_literal(field)),
                    'Accepted are *, numbers, names, a-b, */n, a-b/n, lists of these, and H.'
                );
            end if;
        end loop;
    end if;
    begin
        perform now() at time zone time_zone;
    exception
        when invalid_parameter_value then
            perform workerjobs.refuse(
                format('time zone %s is unknown', quote_literal(time_zone)),
                'Accepted are IANA names such as Europe/Berlin.'
            );
    end;
end $$;

-- Submit a job; returns its id. It exists, and workers hear of it, when the transaction commits.
create function workerjobs.submit(
    type text,
    data json default '{}',
    due timestamptz default null,
    delay interval default null,
    tag text default null,
    priority integer default null,
    pool text default null,
    user_id integer default null,
    timeout_ms integer default null,
    remove_delay_ms integer default null,
    persistent boolean default null,
    auto_reschedule_on_failure boolean default null,
    auto_reschedule_on_failure_delay_ms integer default null,
    retry_limit integer default null,
    retry_initial_delay_ms integer default null,
    retry_factor double precision default null,
    retry_max_delay_ms integer default null,
    retry_jitter double precision default null,
    concurrency_key text default null,
    concurrency_limit integer default null,
    rate_limit integer default null,
    rate_period_ms integer default null,
    traceparent text default null
) returns bigint
language plpgsql set search_path from current as $$
declare
    job workerjobs.new_job;
begin
    -- Before the JSON is read in any other way: that fails on what is refused here.
    perform workerjobs.check_data(data);
    job := json_populate_record(null::workerjobs.new_job, json_build_object(
        'type', type, 'data', data, 'due', due, 'tag', tag, 'priority', priority, 'pool', pool, 'user_id', user_id,
        'timeout_ms', timeout_ms, 'remove_delay_ms', remove_delay_ms, 'persistent', persistent,
        'auto_reschedule_on_failure', auto_reschedule_on_failure,
        'auto_reschedule_on_failure_delay_ms', auto_reschedule_on_failure_delay_ms, 'retry_limit', retry_limit,
        'retry_initial_delay_ms', retry_initial_delay_ms, 'retry_factor', retry_factor,
        'retry_max_delay_ms', retry_max_delay_ms, 'retry_jitter', retry_jitter, 'concurrency_key', concurrency_key,
        'concurrency_limit', concurrency_limit, 'rate_limit', rate_limit, 'rate_period_ms', rate_period_ms,
        'traceparent', traceparent
    ));
    if delay < interval '0' then
        perform workerjobs.refuse(format('delay is %s', delay), 'Give an interval of zero or more.');
    elsif delay is not null and due is not null then
        perform workerjobs.refuse('due and delay exclude each other', 'Give one of them.');
    elsif delay is not null then
        job.due := now() + delay;
    end if;
    job := workerjobs.checked(job);
    return (
        select stored.id
        from workerjobs.store_jobs(json_build_array(job), array_remove(array[job.tag], null)) as stored
    );
end $$;

-- Schedule a cron job; returns the id of its first row. A worker finds the first tick when the transaction has
-- committed. With a key, the job takes the place of the one that has the key; called again with the same arguments, it
-- changes nothing.
create function workerjobs.schedule(
    type text,
    cron text,
    data json default '{}',
    time_zone text default null,
    tag text default null,
    key text default null,
    priority integer default null,
    pool text default null,
    user_id integer default null,
    timeout_ms integer default null,
    remove_delay_ms integer default null,
    persistent boolean default null,
    auto_reschedule_on_failure boolean default null,
    auto_reschedule_on_failure_delay_ms integer default null,
    retry_limit integer default null,
    retry_initial_delay_ms integer default null,
    retry_factor double precision default null,
    retry_max_delay_ms integer default null,
    retry_jitter double precision default null,
    concurrency_key text default null,
    concurrency_limit integer default null,
    rate_limit integer default null,
    rate_period_ms integer default null,
    catch_up text default null,
    concurrency_policy text default null
) returns bigint
language plpgsql set search_path from current as $$
declare
    job workerjobs.new_job;
    stored "workerJobs";
begin
    -- Before the JSON is read in any other way: that fails on what is refused here.
    perform workerjobs.check_data(data);
    job := json_populate_record(null::workerjobs.new_job, json_build_object(
        'type', type, 'data', data, 'cron_schedule', cron, 'time_zone', time_zone, 'cron_key', key, 'tag', tag,
        'catch_up', catch_up, 'concurrency_policy', concurrency_policy, 'priority', priority, 'pool', pool,
        'user_id', user_id, 'timeout_ms', timeout_ms,
        'remove_delay_ms', remove_delay_ms, 'persistent', persistent,
        'auto_reschedule_on_failure', auto_reschedule_on_failure,
        'auto_reschedule_on_failure_delay_ms', auto_reschedule_on_failure_delay_ms, 'retry_limit', retry_limit,
        'retry_initial_delay_ms', retry_initial_delay_ms, 'retry_factor', retry_factor,
        'retry_max_delay_ms', retry_max_delay_ms, 'retry_jitter', retry_jitter, 'concurrency_key', concurrency_key,
        'concurrency_limit', concurrency_limit, 'rate_limit', rate_limit, 'rate_period_ms', rate_period_ms
    ));
    perform workerjobs.check_cron(cron, time_zone);
    job := workerjobs.checked(job);
    if key is not null then
        select * into stored from workerjobs.store_line(row_to_json(job));
    else
        job.cron_key := 'line:' || gen_random_uuid();
        select * into stored
        from workerjobs.store_jobs(json_build_array(job), array_remove(array[job.tag], null));
    end if;
    if stored.tick is null then
        perform pg_notify('workerJobs', '{"kind": "plan"}');
    end if;
    return stored.id;
end $$;

-- End the cron job of a key: its pending row is cancelled, a running one goes on and is the last; returns how many were
-- pending.
create function workerjobs.unschedule(key text) returns integer
language sql set search_path from current as $$
    select count(*)::integer from workerjobs.end_line(key, 'Job cancelled')
$$;

-- Cancel a job, or all unfinished jobs of a tag: pending ones at once, running ones are stopped by their worker;
-- returns how many there were.
create function workerjobs.cancel(id bigint default null, tag text default null, reason text default 'Job cancelled')
returns integer
language plpgsql set search_path from current as $$
begin
    if (id is null) = (tag is null) then
        perform workerjobs.refuse('cancel needs an id or a tag', 'Give one of them.');
    end if;
    return (
        select count(*)
        from workerjobs.cancel_jobs(
            case when id is not null then array[id] else workerjobs.unfinished_of_tag(tag) end, reason
        )
    );
end $$;

-- Run a finished job again, now, as a new row; returns its id.
create function workerjobs.retry(id bigint) returns bigint
language sql set search_path from current as $$
    select stored.id from workerjobs.retry_jobs(array[id]) as stored
$$;
