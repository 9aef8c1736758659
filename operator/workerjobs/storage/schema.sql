-- The whole schema, as all migrations together make it: to be read, not to be run (`workerjobs migrate` does that).
-- Written by `make schema`; the reasons stand in migrations/.

CREATE SCHEMA workerjobs;

CREATE TYPE workerjobs.new_job AS (
	type text,
	data json,
	user_id integer,
	due timestamp with time zone,
	tag text,
	cron_schedule text,
	time_zone text,
	cron_key text,
	tick timestamp with time zone,
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
	is_superseded boolean,
	cluster_id text,
	namespace text,
	resource_name text,
	resource_uid text,
	resource_generation bigint
);

CREATE TABLE public."workerJobs" (
    id bigint NOT NULL,
    type text NOT NULL,
    "userId" integer DEFAULT 0 NOT NULL,
    data json DEFAULT '{}'::json NOT NULL,
    due timestamp with time zone DEFAULT now() NOT NULL,
    started timestamp with time zone,
    finished timestamp with time zone,
    success boolean,
    result jsonb,
    "cronSchedule" text,
    persistent boolean DEFAULT false NOT NULL,
    tag text,
    "removeAt" timestamp with time zone,
    "removeDelay" integer DEFAULT 0 NOT NULL,
    "autoRescheduleOnFailure" boolean DEFAULT false NOT NULL,
    "autoRescheduleOnFailureDelay" integer DEFAULT 0 NOT NULL,
    "rescheduledFromJob" bigint,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL,
    priority smallint DEFAULT 0 NOT NULL,
    attempt integer DEFAULT 1 NOT NULL,
    rescues integer DEFAULT 0 NOT NULL,
    "cronKey" text,
    tick timestamp with time zone,
    "timeZone" text,
    "catchUp" text,
    "concurrencyPolicy" text,
    "dataFrom" jsonb,
    "retryLimit" integer,
    "retryInitialDelay" integer,
    "retryFactor" double precision,
    "retryMaxDelay" integer,
    "timeoutMs" integer,
    pool text DEFAULT 'default'::text NOT NULL,
    "concurrencyKey" text,
    "concurrencyLimit" integer,
    "leaseOwner" text,
    "leaseDeadline" timestamp with time zone,
    "fencingToken" bigint,
    "cancelRequested" boolean DEFAULT false NOT NULL,
    progress jsonb,
    "clusterId" text,
    namespace text,
    "resourceName" text,
    "resourceUid" text,
    "resourceGeneration" bigint,
    traceparent text,
    "rateLimit" integer,
    "ratePeriod" integer,
    "retryJitter" double precision,
    "isFollowed" boolean DEFAULT false NOT NULL,
    "lostReason" text,
    "heldDue" timestamp with time zone,
    CONSTRAINT "workerJobs_deadline_has_owner" CHECK ((("leaseDeadline" IS NULL) OR (("leaseOwner" IS NOT NULL) AND ("fencingToken" IS NOT NULL)))),
    CONSTRAINT "workerJobs_success_when_finished" CHECK (((success IS NULL) = (finished IS NULL)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_limit='2000', autovacuum_analyze_scale_factor='0.02', autovacuum_analyze_threshold='1000', vacuum_index_cleanup='on', vacuum_truncate=off);

CREATE FUNCTION workerjobs.again(j public."workerJobs", rescheduled_from_job bigint, traceparent text DEFAULT NULL::text, is_superseded boolean DEFAULT NULL::boolean) RETURNS json
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION workerjobs.announce_cancel() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'cancel', 'jobId', new.id)::text);
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_inserted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    earliest record;
    is_first constant boolean := coalesce(current_setting('workerjobs.has_announced', true), '') = '';
begin
    for earliest in
        select pool, min(due) as due, case when min(type) = max(type) then min(type) end as type,
            -- A single row is named, so that whoever is idle claims it without a search. Only the first one of a
            -- transaction: announcements that are alike are told once, however many statements there are.
            case when is_first and count(*) = 1 then min(id) end as id,
            bool_or(
                "concurrencyKey" is not null
                or type in (select own.name from "workerJobLimits" as own where own.kind = 'type')
            ) as is_limited
        from inserted
        where started is null and finished is null
        group by pool
    loop
        perform set_config('workerjobs.has_announced', 'yes', true);
        perform pg_notify('workerJobs', json_build_object(
            'kind', 'due', 'pool', earliest.pool, 'seconds', workerjobs.seconds_until(earliest.due),
            'type', earliest.type, 'id', case when not earliest.is_limited then earliest.id end
        )::text);
        if earliest.is_limited then
            perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', earliest.pool)::text);
        end if;
    end loop;
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_key(key text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', waiting.pool)::text)
    from (
        with recursive pools (pool) as (
            (
                select first.pool from "workerJobs" as first
                where first.started is null and first.finished is null and first."leaseDeadline" is null
                    and first."concurrencyKey" = key
                order by first.pool
                limit 1
            )
            union all
            select (
                select following.pool from "workerJobs" as following
                where following.started is null and following.finished is null and following."leaseDeadline" is null
                    and following."concurrencyKey" = key and following.pool > pools.pool
                order by following.pool
                limit 1
            )
            from pools
            where pools.pool is not null
        )
        select pools.pool from pools where pools.pool is not null
    ) as waiting;
end $$;

CREATE FUNCTION workerjobs.announce_limited() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform workerjobs.announce_key(new."concurrencyKey");
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_notifications(kind text, ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    first integer;
begin
    -- A payload holds less than 8,000 bytes.
    for first in select generate_series(1, coalesce(array_length(ids, 1), 0), 500) loop
        perform pg_notify('workerNotifications', json_build_object(
            'kind', kind, 'ids', to_json(ids[first : first + 499])
        )::text);
    end loop;
end $$;

CREATE FUNCTION workerjobs.announce_pending() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object(
        'kind', 'due', 'pool', new.pool, 'seconds', workerjobs.seconds_until(new.due), 'type', new.type
    )::text);
    if new."concurrencyKey" is not null then
        perform workerjobs.announce_key(new."concurrencyKey");
    end if;
    if exists (select from "workerJobLimits" as own where own.kind = 'type' and own.name = new.type) then
        perform workerjobs.announce_type(new.type);
    end if;
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_resource() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object(
        'kind', 'resource', 'clusterId', new."clusterId", 'uid', new."resourceUid"
    )::text);
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_settings() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('workerJobs', '{"kind": "settings"}');
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_type(type text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', waiting.pool)::text)
    from (
        with recursive pools (pool) as (
            select (
                select first.pool from "workerJobs" as first
                where first.started is null and first.finished is null and first."concurrencyKey" is null
                order by first.pool
                limit 1
            )
            union all
            select (
                select following.pool from "workerJobs" as following
                where following.started is null and following.finished is null and following."concurrencyKey" is null
                    and following.pool > pools.pool
                order by following.pool
                limit 1
            )
            from pools
            where pools.pool is not null
        ),
        keyed_pools (pool) as (
            select (
                select first.pool from "workerJobs" as first
                where first.started is null and first.finished is null and first."concurrencyKey" is not null
                order by first.pool
                limit 1
            )
            union all
            select (
                select following.pool from "workerJobs" as following
                where following.started is null and following.finished is null
                    and following."concurrencyKey" is not null and following.pool > keyed_pools.pool
                order by following.pool
                limit 1
            )
            from keyed_pools
            where keyed_pools.pool is not null
        )
        select pools.pool from pools
        where exists (
            select from "workerJobs" as pending
            where pending.started is null and pending.finished is null and pending."concurrencyKey" is null
                and pending.pool = pools.pool and pending.type = announce_type.type
        )
        union
        select keyed_pools.pool from keyed_pools
        where exists (
            select from "workerJobs" as pending
            where pending.started is null and pending.finished is null and pending."concurrencyKey" is not null
                and pending.pool = keyed_pools.pool and pending.type = announce_type.type
        )
    ) as waiting;
end $$;

CREATE FUNCTION workerjobs.announce_worker() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'worker', 'owner', new.owner)::text);
    return null;
end $$;

CREATE FUNCTION workerjobs.broadcast(data json) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
declare
    stored bigint;
begin
    if json_typeof(data) is distinct from 'object' then
        perform workerjobs.refuse('the data of a broadcast is no JSON object', 'Give an object.');
    end if;
    insert into "workerBroadcasts" (data) values (broadcast.data) returning id into stored;
    perform workerjobs.announce_notifications('broadcast', array[stored]);
    return stored;
end $$;

CREATE FUNCTION workerjobs.cancel(id bigint DEFAULT NULL::bigint, tag text DEFAULT NULL::text, reason text DEFAULT 'Job cancelled'::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.cancel_jobs(ids bigint[], reason text) RETURNS SETOF public."workerJobs"
    LANGUAGE sql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.check_cron(cron text, time_zone text) RETURNS void
    LANGUAGE plpgsql
    AS $_$
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
end $_$;

CREATE FUNCTION workerjobs.check_data(data json) RETURNS void
    LANGUAGE plpgsql
    AS $_$
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
end $_$;

CREATE FUNCTION workerjobs.check_name(what text, value text) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION workerjobs.check_number(what text, value integer, low integer, high integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    if value not between low and high then
        perform workerjobs.refuse(format('%s is %s', what, value), format('Give a number from %s to %s.', low, high));
    end if;
end $$;

CREATE FUNCTION workerjobs.checked(job workerjobs.new_job) RETURNS workerjobs.new_job
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION workerjobs.end_line(key text, reason text) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.full_xid(short xid, current pg_snapshot) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    select case when candidate < ceiling then candidate else candidate - 4294967296 end
    from (
        select ceiling, (ceiling & -4294967296) + short::text::bigint as candidate
        from (select pg_snapshot_xmax(current)::text::bigint as ceiling) as given
    ) as guess
$$;

CREATE FUNCTION workerjobs.hold_off_pauses() RETURNS void
    LANGUAGE sql
    AS $$
    select pg_advisory_xact_lock_shared(hashtextextended('workerjobs cron pauses', 0))
$$;

CREATE FUNCTION workerjobs.hold_suspended() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    is_held boolean := false;
begin
    if new."resourceUid" is not null then
        select state."isSuspended" into is_held
        from "workerJobResourceStates" as state
        where state."clusterId" = new."clusterId" and state."resourceUid" = new."resourceUid"
        for share;
    end if;
    if is_held is not true and new."cronSchedule" is not null then
        perform workerjobs.hold_off_pauses();
        -- A statement of its own, which sees the pause that whoever had the lock has written. A row that names no line
        -- belongs to one all the same: sql/cron_line.sql.
        is_held := exists (
            select from "workerJobPauses" as pause
            where pause.kind = 'cron'
                and pause.name = coalesce(
                    new."cronKey", 'tag:' || new.tag || ':' || new."cronSchedule", 'job:' || new.id
                )
        );
    end if;
    if is_held then
        update "workerJobs" set "heldDue" = due, due = 'infinity'
        where id = new.id and started is null and finished is null and due <> 'infinity';
    end if;
    return null;
end $$;

CREATE FUNCTION workerjobs.jobs_table() RETURNS regclass
    LANGUAGE sql STABLE
    SET search_path TO 'public'
    AS $$
    select '"workerJobs"'::regclass
$$;

CREATE FUNCTION workerjobs.lock_names(kind text, names text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION workerjobs.note_end() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    if new."clusterId" is not null then
        insert into "workerJobEnds" ("clusterId", "resourceUid", state, attempt, rescues)
        values (
            new."clusterId", new."resourceUid",
            case
                when new.success then 'succeeded'
                when new.started is null or new."cancelRequested" then 'cancelled'
                else 'failed'
            end,
            new.attempt, new.rescues
        );
    end if;
    return null;
end $$;

CREATE FUNCTION workerjobs.notify(user_id integer, data json) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
declare
    stored integer;
begin
    if json_typeof(data) is distinct from 'object' then
        perform workerjobs.refuse('the data of a notification is no JSON object', 'Give an object.');
    end if;
    insert into notifications (user_id, data) values (notify.user_id, notify.data) returning id into stored;
    perform workerjobs.announce_notifications('created', array[stored]::bigint[]);
    return stored;
exception when foreign_key_violation then
    raise no_data_found using message = format('there is no user %s', user_id);
end $$;

CREATE FUNCTION workerjobs.refuse(problem text, accepted text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    raise exception using errcode = 'invalid_parameter_value', message = problem, hint = accepted;
end $$;

CREATE FUNCTION workerjobs.remove_at(due timestamp with time zone, "removeDelay" integer) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
    select due + interval '1 millisecond' * case "removeDelay" when 0 then 3600000 else "removeDelay" end
$$;

CREATE FUNCTION workerjobs.replace_tags(tags text[], cron_tags text[] DEFAULT '{}'::text[], spares_lines boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.retry(id bigint) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'public'
    AS $$
    select stored.id from workerjobs.retry_jobs(array[id]) as stored
$$;

CREATE FUNCTION workerjobs.retry_jobs(ids bigint[]) RETURNS SETOF public."workerJobs"
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.schedule(type text, cron text, data json DEFAULT '{}'::json, time_zone text DEFAULT NULL::text, tag text DEFAULT NULL::text, key text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, pool text DEFAULT NULL::text, user_id integer DEFAULT NULL::integer, timeout_ms integer DEFAULT NULL::integer, remove_delay_ms integer DEFAULT NULL::integer, persistent boolean DEFAULT NULL::boolean, auto_reschedule_on_failure boolean DEFAULT NULL::boolean, auto_reschedule_on_failure_delay_ms integer DEFAULT NULL::integer, retry_limit integer DEFAULT NULL::integer, retry_initial_delay_ms integer DEFAULT NULL::integer, retry_factor double precision DEFAULT NULL::double precision, retry_max_delay_ms integer DEFAULT NULL::integer, retry_jitter double precision DEFAULT NULL::double precision, concurrency_key text DEFAULT NULL::text, concurrency_limit integer DEFAULT NULL::integer, rate_limit integer DEFAULT NULL::integer, rate_period_ms integer DEFAULT NULL::integer, catch_up text DEFAULT NULL::text, concurrency_policy text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.seconds_until(moment timestamp with time zone) RETURNS double precision
    LANGUAGE sql
    AS $$
    select greatest(0, extract(epoch from
        greatest(least(moment, clock_timestamp() + interval '1 day'), clock_timestamp()) - clock_timestamp()
    ))::double precision
$$;

CREATE FUNCTION workerjobs.store_jobs(jobs json, replaced_tags text[] DEFAULT '{}'::text[]) RETURNS SETOF public."workerJobs"
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.store_line(given json) RETURNS SETOF public."workerJobs"
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.submit(type text, data json DEFAULT '{}'::json, due timestamp with time zone DEFAULT NULL::timestamp with time zone, delay interval DEFAULT NULL::interval, tag text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, pool text DEFAULT NULL::text, user_id integer DEFAULT NULL::integer, timeout_ms integer DEFAULT NULL::integer, remove_delay_ms integer DEFAULT NULL::integer, persistent boolean DEFAULT NULL::boolean, auto_reschedule_on_failure boolean DEFAULT NULL::boolean, auto_reschedule_on_failure_delay_ms integer DEFAULT NULL::integer, retry_limit integer DEFAULT NULL::integer, retry_initial_delay_ms integer DEFAULT NULL::integer, retry_factor double precision DEFAULT NULL::double precision, retry_max_delay_ms integer DEFAULT NULL::integer, retry_jitter double precision DEFAULT NULL::double precision, concurrency_key text DEFAULT NULL::text, concurrency_limit integer DEFAULT NULL::integer, rate_limit integer DEFAULT NULL::integer, rate_period_ms integer DEFAULT NULL::integer, traceparent text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'public'
    AS $$
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

CREATE FUNCTION workerjobs.unfinished_of_tag(tag text) RETURNS bigint[]
    LANGUAGE sql STABLE
    SET search_path TO 'public'
    AS $_$
    select array(
        select j.id from "workerJobs" as j where j.tag = $1 and j.started is null and j.finished is null
        union all
        select j.id from "workerJobs" as j where j.tag = $1 and j.started is not null and j.finished is null
    )
$_$;

CREATE FUNCTION workerjobs.unschedule(key text) RETURNS integer
    LANGUAGE sql
    SET search_path TO 'public'
    AS $$
    select count(*)::integer from workerjobs.end_line(key, 'Job cancelled')
$$;

CREATE TABLE public."workerApiAnswers" (
    actor text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    answer jsonb,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public."workerApiTokens" (
    id bigint NOT NULL,
    name text NOT NULL,
    scope text NOT NULL,
    hash text NOT NULL,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL,
    "expiresAt" timestamp with time zone,
    "lastUsedAt" timestamp with time zone,
    "revokedAt" timestamp with time zone,
    CONSTRAINT "workerApiTokens_scope_check" CHECK ((scope = ANY (ARRAY['read'::text, 'write'::text])))
);

ALTER TABLE public."workerApiTokens" ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public."workerApiTokens_id_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public."workerAudit" (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    actor text NOT NULL,
    "tokenId" bigint,
    address text,
    action text NOT NULL,
    details jsonb DEFAULT '{}'::jsonb NOT NULL
);

ALTER TABLE public."workerAudit" ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public."workerAudit_id_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public."workerBroadcasts" (
    id bigint NOT NULL,
    data json NOT NULL,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE public."workerBroadcasts" ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public."workerBroadcasts_id_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public."workerChainAddresses" (
    chain text NOT NULL,
    filter text NOT NULL,
    address text NOT NULL,
    "blockNumber" bigint NOT NULL
);

CREATE TABLE public."workerChainBlocks" (
    chain text NOT NULL,
    number bigint NOT NULL,
    hash text NOT NULL
);

CREATE TABLE public."workerChainDeadLetters" (
    id bigint NOT NULL,
    chain text NOT NULL,
    filter text NOT NULL,
    "blockNumber" bigint NOT NULL,
    "blockHash" text NOT NULL,
    "transactionHash" text NOT NULL,
    "logIndex" integer NOT NULL,
    address text NOT NULL,
    topics text[] NOT NULL,
    data text NOT NULL,
    reason text NOT NULL,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE public."workerChainDeadLetters" ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public."workerChainDeadLetters_id_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public."workerChainEffects" (
    chain text NOT NULL,
    "blockNumber" bigint NOT NULL,
    "blockHash" text NOT NULL,
    "logIndex" integer NOT NULL,
    filter text NOT NULL,
    place smallint DEFAULT 0 NOT NULL,
    "transactionHash" text NOT NULL,
    "notificationId" integer,
    "jobId" bigint,
    "revokedAt" timestamp with time zone,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public."workerChainEndpoints" (
    chain text NOT NULL,
    endpoint text NOT NULL,
    "headNumber" bigint,
    "latencyMs" double precision,
    "rangeLimit" bigint,
    requests bigint DEFAULT 0 NOT NULL,
    errors jsonb DEFAULT '{}'::jsonb NOT NULL,
    trouble text,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public."workerChainFilterCursors" (
    chain text NOT NULL,
    filter text NOT NULL,
    query text NOT NULL,
    number bigint NOT NULL,
    hash text NOT NULL,
    message text,
    "failingSince" timestamp with time zone,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public."workerChainFilters" (
    name text NOT NULL,
    chain text,
    event text NOT NULL,
    addresses text[],
    factory jsonb,
    "fromBlock" bigint,
    action text NOT NULL,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT "workerChainFilters_action" CHECK ((action = ANY (ARRAY['enqueue'::text, 'notify'::text, 'webhook'::text]))),
    CONSTRAINT "workerChainFilters_fromBlock" CHECK (("fromBlock" >= 0))
);

CREATE TABLE public."workerChainPayments" (
    "chainId" bigint NOT NULL,
    "transactionHash" text NOT NULL,
    "signedTransaction" text NOT NULL,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public."workerChains" (
    chain text NOT NULL,
    "chainId" bigint NOT NULL,
    number bigint NOT NULL,
    hash text NOT NULL,
    "blockTime" timestamp with time zone NOT NULL,
    "finalNumber" bigint NOT NULL,
    "startNumber" bigint NOT NULL,
    "headNumber" bigint NOT NULL,
    "headTime" timestamp with time zone NOT NULL,
    blocks bigint DEFAULT 0 NOT NULL,
    logs bigint DEFAULT 0 NOT NULL,
    undecodable bigint DEFAULT 0 NOT NULL,
    reorgs bigint DEFAULT 0 NOT NULL,
    "deepestReorg" bigint DEFAULT 0 NOT NULL,
    revoked bigint DEFAULT 0 NOT NULL,
    condition text,
    message text,
    "conditionSince" timestamp with time zone,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public."workerJobEnds" (
    "clusterId" text NOT NULL,
    "resourceUid" text NOT NULL,
    state text NOT NULL,
    attempt integer NOT NULL,
    rescues integer NOT NULL
);

CREATE TABLE public."workerJobLeaders" (
    lease text NOT NULL,
    transitions bigint NOT NULL,
    holder text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public."workerJobLimits" (
    kind text NOT NULL,
    name text NOT NULL,
    concurrency integer,
    "rateLimit" integer,
    "ratePeriod" integer,
    "nextStart" timestamp with time zone,
    "isDeclared" boolean DEFAULT false NOT NULL,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT "workerJobLimits_concurrency_check" CHECK ((concurrency >= 0)),
    CONSTRAINT "workerJobLimits_kind_check" CHECK ((kind = ANY (ARRAY['type'::text, 'key'::text]))),
    CONSTRAINT "workerJobLimits_rateLimit_check" CHECK (("rateLimit" > 0)),
    CONSTRAINT "workerJobLimits_ratePeriod_check" CHECK (("ratePeriod" > 0)),
    CONSTRAINT "workerJobLimits_rate_is_whole" CHECK ((("rateLimit" IS NULL) = ("ratePeriod" IS NULL)))
);

CREATE TABLE public."workerJobLogs" (
    id bigint NOT NULL,
    "jobId" bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    CONSTRAINT "workerJobLogs_level_check" CHECK ((level = ANY (ARRAY['trace'::text, 'debug'::text, 'info'::text, 'warn'::text, 'error'::text])))
);

ALTER TABLE public."workerJobLogs" ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public."workerJobLogs_id_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public."workerJobPauses" (
    kind text NOT NULL,
    name text NOT NULL,
    reason text,
    "pausedAt" timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT "workerJobPauses_kind_check" CHECK ((kind = ANY (ARRAY['pool'::text, 'type'::text, 'cron'::text])))
);

CREATE TABLE public."workerJobResourceStates" (
    "clusterId" text NOT NULL,
    "resourceUid" text NOT NULL,
    "isSuspended" boolean DEFAULT false NOT NULL,
    "historyLimit" integer,
    succeeded bigint DEFAULT 0 NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    cancelled bigint DEFAULT 0 NOT NULL,
    retried bigint DEFAULT 0 NOT NULL,
    lost bigint DEFAULT 0 NOT NULL,
    CONSTRAINT "workerJobResourceStates_historyLimit_check" CHECK (("historyLimit" > 0))
);

CREATE TABLE public."workerJobResources" (
    "clusterId" text NOT NULL,
    "resourceUid" text NOT NULL,
    "runKey" text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    "createdAt" timestamp with time zone DEFAULT now() NOT NULL,
    "deletedAt" timestamp with time zone
);

CREATE TABLE public."workerJobWorkers" (
    owner text NOT NULL,
    pool text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    children integer NOT NULL,
    types text[] DEFAULT '{}'::text[] NOT NULL,
    schemas jsonb DEFAULT '{}'::jsonb NOT NULL,
    "isDraining" boolean DEFAULT false NOT NULL,
    "startedAt" timestamp with time zone DEFAULT now() NOT NULL,
    "seenAt" timestamp with time zone DEFAULT now() NOT NULL,
    "clusterId" text,
    namespace text,
    "podName" text,
    "podUid" text,
    "bootedAt" timestamp with time zone DEFAULT now() NOT NULL,
    "drainReasons" text[] DEFAULT '{}'::text[] NOT NULL,
    "revokedAt" timestamp with time zone,
    "revocationSeenAt" timestamp with time zone
);

CREATE TABLE public."workerJobsMigrations" (
    version integer NOT NULL,
    name text NOT NULL,
    "compatibleFrom" integer NOT NULL,
    "appliedAt" timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE public."workerJobs" ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public."workerJobs_id_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public."workerPools" (
    uid text NOT NULL,
    "clusterId" text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    pool text NOT NULL,
    desired integer NOT NULL,
    replicas integer NOT NULL,
    ready integer NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL
);

CREATE SEQUENCE workerjobs.fencing_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE ONLY public."workerApiAnswers"
    ADD CONSTRAINT "workerApiAnswers_pkey" PRIMARY KEY (actor, key);

ALTER TABLE ONLY public."workerApiTokens"
    ADD CONSTRAINT "workerApiTokens_hash_key" UNIQUE (hash);

ALTER TABLE ONLY public."workerApiTokens"
    ADD CONSTRAINT "workerApiTokens_pkey" PRIMARY KEY (id);

ALTER TABLE ONLY public."workerAudit"
    ADD CONSTRAINT "workerAudit_pkey" PRIMARY KEY (id);

ALTER TABLE ONLY public."workerBroadcasts"
    ADD CONSTRAINT "workerBroadcasts_pkey" PRIMARY KEY (id);

ALTER TABLE ONLY public."workerChainAddresses"
    ADD CONSTRAINT "workerChainAddresses_pkey" PRIMARY KEY (chain, filter, address);

ALTER TABLE ONLY public."workerChainBlocks"
    ADD CONSTRAINT "workerChainBlocks_pkey" PRIMARY KEY (chain, number);

ALTER TABLE ONLY public."workerChainDeadLetters"
    ADD CONSTRAINT "workerChainDeadLetters_once" UNIQUE (chain, "blockHash", "logIndex", filter);

ALTER TABLE ONLY public."workerChainDeadLetters"
    ADD CONSTRAINT "workerChainDeadLetters_pkey" PRIMARY KEY (id);

ALTER TABLE ONLY public."workerChainEffects"
    ADD CONSTRAINT "workerChainEffects_pkey" PRIMARY KEY (chain, "blockNumber", "blockHash", "logIndex", filter, place);

ALTER TABLE ONLY public."workerChainEndpoints"
    ADD CONSTRAINT "workerChainEndpoints_pkey" PRIMARY KEY (chain, endpoint);

ALTER TABLE ONLY public."workerChainFilterCursors"
    ADD CONSTRAINT "workerChainFilterCursors_pkey" PRIMARY KEY (chain, filter);

ALTER TABLE ONLY public."workerChainFilters"
    ADD CONSTRAINT "workerChainFilters_pkey" PRIMARY KEY (name);

ALTER TABLE ONLY public."workerChainPayments"
    ADD CONSTRAINT "workerChainPayments_pkey" PRIMARY KEY ("chainId");

ALTER TABLE ONLY public."workerChains"
    ADD CONSTRAINT "workerChains_pkey" PRIMARY KEY (chain);

ALTER TABLE ONLY public."workerJobLeaders"
    ADD CONSTRAINT "workerJobLeaders_pkey" PRIMARY KEY (lease);

ALTER TABLE ONLY public."workerJobLimits"
    ADD CONSTRAINT "workerJobLimits_pkey" PRIMARY KEY (kind, name);

ALTER TABLE ONLY public."workerJobLogs"
    ADD CONSTRAINT "workerJobLogs_pkey" PRIMARY KEY (id);

ALTER TABLE ONLY public."workerJobPauses"
    ADD CONSTRAINT "workerJobPauses_pkey" PRIMARY KEY (kind, name);

ALTER TABLE ONLY public."workerJobResourceStates"
    ADD CONSTRAINT "workerJobResourceStates_pkey" PRIMARY KEY ("clusterId", "resourceUid");

ALTER TABLE ONLY public."workerJobResources"
    ADD CONSTRAINT "workerJobResources_pkey" PRIMARY KEY ("clusterId", "resourceUid", "runKey");

ALTER TABLE ONLY public."workerJobWorkers"
    ADD CONSTRAINT "workerJobWorkers_pkey" PRIMARY KEY (owner);

ALTER TABLE ONLY public."workerJobsMigrations"
    ADD CONSTRAINT "workerJobsMigrations_pkey" PRIMARY KEY (version);

ALTER TABLE ONLY public."workerJobs"
    ADD CONSTRAINT "workerJobs_pkey" PRIMARY KEY (id);

ALTER TABLE ONLY public."workerPools"
    ADD CONSTRAINT "workerPools_pkey" PRIMARY KEY (uid);

CREATE INDEX "workerApiAnswers_createdAt" ON public."workerApiAnswers" USING btree ("createdAt");

CREATE UNIQUE INDEX "workerApiTokens_name" ON public."workerApiTokens" USING btree (name) WHERE ("revokedAt" IS NULL);

CREATE INDEX "workerAudit_at" ON public."workerAudit" USING btree (at);

CREATE INDEX "workerJobEnds_resource" ON public."workerJobEnds" USING btree ("clusterId", "resourceUid");

CREATE INDEX "workerJobLogs_job" ON public."workerJobLogs" USING btree ("jobId", id);

CREATE INDEX "workerJobWorkers_pod" ON public."workerJobWorkers" USING btree ("podUid") WHERE ("podUid" IS NOT NULL);

CREATE INDEX "workerJobs_claimable" ON public."workerJobs" USING btree (pool, type, priority DESC, due, id) WHERE ((started IS NULL) AND (finished IS NULL) AND ("concurrencyKey" IS NULL));

CREATE INDEX "workerJobs_follower" ON public."workerJobs" USING btree ("rescheduledFromJob") WHERE ("rescheduledFromJob" IS NOT NULL);

CREATE INDEX "workerJobs_keyed" ON public."workerJobs" USING btree (pool, type, "concurrencyKey", priority DESC, due, id) WHERE ((started IS NULL) AND (finished IS NULL) AND ("concurrencyKey" IS NOT NULL));

CREATE INDEX "workerJobs_removable" ON public."workerJobs" USING btree ("removeAt", id) WHERE ((finished IS NOT NULL) AND (NOT persistent));

CREATE INDEX "workerJobs_resource" ON public."workerJobs" USING btree ("clusterId", "resourceUid", id) WHERE ("resourceUid" IS NOT NULL);

CREATE INDEX "workerJobs_running" ON public."workerJobs" USING btree ("leaseDeadline") WHERE ((started IS NOT NULL) AND (finished IS NULL));

CREATE INDEX "workerJobs_running_key" ON public."workerJobs" USING btree ("concurrencyKey", "leaseDeadline") WHERE ((started IS NOT NULL) AND (finished IS NULL) AND ("concurrencyKey" IS NOT NULL));

CREATE INDEX "workerJobs_scheduled" ON public."workerJobs" USING btree (id) WHERE (("cronSchedule" IS NOT NULL) AND (finished IS NULL));

CREATE UNIQUE INDEX "workerJobs_tick" ON public."workerJobs" USING btree ("cronKey", tick) WHERE (("cronKey" IS NOT NULL) AND (NOT ((finished IS NOT NULL) AND (success = false) AND ((started IS NULL) OR "cancelRequested"))));

CREATE INDEX "workerJobs_unfinished_cron" ON public."workerJobs" USING btree ("cronKey") WHERE (("cronKey" IS NOT NULL) AND (finished IS NULL));

CREATE INDEX "workerJobs_unfinished_tag" ON public."workerJobs" USING btree (tag) WHERE ((tag IS NOT NULL) AND (finished IS NULL));

CREATE INDEX "workerJobs_unplanned" ON public."workerJobs" USING btree ("cronKey", id) WHERE ((due = 'infinity'::timestamp with time zone) AND (tick IS NULL) AND ("cronKey" IS NOT NULL) AND (started IS NULL) AND (finished IS NULL));

CREATE INDEX "workerJobs_unsuccessful" ON public."workerJobs" USING btree (id) WHERE (success = false);

CREATE INDEX "workerJobs_waiting_key" ON public."workerJobs" USING btree ("concurrencyKey", pool) WHERE ((started IS NULL) AND (finished IS NULL) AND ("leaseDeadline" IS NULL) AND ("concurrencyKey" IS NOT NULL));

CREATE TRIGGER "announceCancel" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN ((new."cancelRequested" AND (NOT old."cancelRequested") AND (new.started IS NOT NULL) AND (new.finished IS NULL))) EXECUTE FUNCTION workerjobs.announce_cancel();

CREATE TRIGGER "announceInserted" AFTER INSERT ON public."workerJobs" REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION workerjobs.announce_inserted();

CREATE TRIGGER "announceLimited" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN (((new."concurrencyKey" IS NOT NULL) AND (new.finished IS NOT NULL) AND (old.finished IS NULL) AND (old.started IS NOT NULL))) EXECUTE FUNCTION workerjobs.announce_limited();

CREATE TRIGGER "announceLimits" AFTER DELETE OR UPDATE OF concurrency, "rateLimit", "ratePeriod" ON public."workerJobLimits" FOR EACH STATEMENT EXECUTE FUNCTION workerjobs.announce_settings();

CREATE TRIGGER "announceNewLimits" AFTER INSERT ON public."workerJobLimits" FOR EACH ROW WHEN (((new.concurrency IS NOT NULL) OR (new."rateLimit" IS NOT NULL))) EXECUTE FUNCTION workerjobs.announce_settings();

CREATE TRIGGER "announcePauses" AFTER INSERT OR DELETE OR UPDATE ON public."workerJobPauses" FOR EACH STATEMENT EXECUTE FUNCTION workerjobs.announce_settings();

CREATE TRIGGER "announcePending" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN (((new.started IS NULL) AND (new.finished IS NULL))) EXECUTE FUNCTION workerjobs.announce_pending();

CREATE TRIGGER "announceResourceInserted" AFTER INSERT ON public."workerJobs" FOR EACH ROW WHEN ((new."resourceUid" IS NOT NULL)) EXECUTE FUNCTION workerjobs.announce_resource();

CREATE TRIGGER "announceResourceUpdated" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN (((new."resourceUid" IS NOT NULL) AND (new."updatedAt" IS DISTINCT FROM old."updatedAt"))) EXECUTE FUNCTION workerjobs.announce_resource();

CREATE TRIGGER "announceWorker" AFTER UPDATE ON public."workerJobWorkers" FOR EACH ROW WHEN (((new."drainReasons" IS DISTINCT FROM old."drainReasons") OR (new."revokedAt" IS DISTINCT FROM old."revokedAt"))) EXECUTE FUNCTION workerjobs.announce_worker();

CREATE TRIGGER "holdInserted" AFTER INSERT ON public."workerJobs" FOR EACH ROW WHEN ((((new."resourceUid" IS NOT NULL) OR (new."cronSchedule" IS NOT NULL)) AND (new.started IS NULL) AND (new.finished IS NULL))) EXECUTE FUNCTION workerjobs.hold_suspended();

CREATE TRIGGER "holdReturned" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN ((((new."resourceUid" IS NOT NULL) OR (new."cronSchedule" IS NOT NULL)) AND (new.started IS NULL) AND (new.finished IS NULL) AND ((old.started IS NOT NULL) OR ((old.tick IS NULL) AND (new.tick IS NOT NULL))))) EXECUTE FUNCTION workerjobs.hold_suspended();

CREATE TRIGGER "noteEnd" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN (((new."resourceUid" IS NOT NULL) AND (new.finished IS NOT NULL) AND (old.finished IS NULL))) EXECUTE FUNCTION workerjobs.note_end();

CREATE TRIGGER "noteInsertedEnd" AFTER INSERT ON public."workerJobs" FOR EACH ROW WHEN (((new."resourceUid" IS NOT NULL) AND (new.finished IS NOT NULL))) EXECUTE FUNCTION workerjobs.note_end();

ALTER TABLE ONLY public."workerChainBlocks"
    ADD CONSTRAINT "workerChainBlocks_chain_fkey" FOREIGN KEY (chain) REFERENCES public."workerChains"(chain) ON DELETE CASCADE;

ALTER TABLE ONLY public."workerChainFilterCursors"
    ADD CONSTRAINT "workerChainFilterCursors_chain_fkey" FOREIGN KEY (chain) REFERENCES public."workerChains"(chain) ON DELETE CASCADE;
