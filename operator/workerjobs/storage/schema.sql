-- The whole schema, as all migrations together make it: to be read, not to be run (`workerjobs migrate` does that).
-- Written by `make schema`; the reasons stand in migrations/.

CREATE SCHEMA workerjobs;

CREATE FUNCTION workerjobs.announce_cancel() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'cancel', 'jobId', new.id)::text);
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
    earliest record;
begin
    for earliest in
        select pool, min(due) as due, case when min(type) = max(type) then min(type) end as type,
            bool_or("concurrencyKey" is not null) as is_limited
        from inserted
        where started is null and finished is null
        group by pool
    loop
        perform pg_notify('workerJobs', json_build_object(
            'kind', 'due', 'pool', earliest.pool, 'seconds', workerjobs.seconds_until(earliest.due),
            'type', earliest.type
        )::text);
        if earliest.is_limited then
            perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', earliest.pool)::text);
        end if;
    end loop;
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_limited() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', new.pool)::text);
    return null;
end $$;

CREATE FUNCTION workerjobs.announce_pending() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('workerJobs', json_build_object(
        'kind', 'due', 'pool', new.pool, 'seconds', workerjobs.seconds_until(new.due), 'type', new.type
    )::text);
    if new."concurrencyKey" is not null then
        perform pg_notify('workerJobs', json_build_object('kind', 'limited', 'pool', new.pool)::text);
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

CREATE FUNCTION workerjobs.remove_at(due timestamp with time zone, "removeDelay" integer) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
    select due + interval '1 millisecond' * case "removeDelay" when 0 then 3600000 else "removeDelay" end
$$;

CREATE FUNCTION workerjobs.seconds_until(moment timestamp with time zone) RETURNS double precision
    LANGUAGE sql
    AS $$
    select greatest(0, extract(epoch from
        greatest(least(moment, clock_timestamp() + interval '1 day'), clock_timestamp()) - clock_timestamp()
    ))::double precision
$$;

CREATE TABLE public."workerJobLimits" (
    kind text NOT NULL,
    name text NOT NULL,
    concurrency integer,
    "rateLimit" integer,
    "ratePeriod" integer,
    "nextStart" timestamp with time zone,
    "updatedAt" timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT "workerJobLimits_concurrency_check" CHECK ((concurrency >= 0)),
    CONSTRAINT "workerJobLimits_kind_check" CHECK ((kind = ANY (ARRAY['type'::text, 'key'::text]))),
    CONSTRAINT "workerJobLimits_rateLimit_check" CHECK (("rateLimit" > 0)),
    CONSTRAINT "workerJobLimits_ratePeriod_check" CHECK (("ratePeriod" > 0)),
    CONSTRAINT "workerJobLimits_rate_is_whole" CHECK ((("rateLimit" IS NULL) = ("ratePeriod" IS NULL)))
);

CREATE TABLE public."workerJobPauses" (
    kind text NOT NULL,
    name text NOT NULL,
    reason text,
    "pausedAt" timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT "workerJobPauses_kind_check" CHECK ((kind = ANY (ARRAY['pool'::text, 'type'::text])))
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
    "seenAt" timestamp with time zone DEFAULT now() NOT NULL
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
    CONSTRAINT "workerJobs_deadline_has_owner" CHECK ((("leaseDeadline" IS NULL) OR (("leaseOwner" IS NOT NULL) AND ("fencingToken" IS NOT NULL)))),
    CONSTRAINT "workerJobs_success_when_finished" CHECK (((success IS NULL) = (finished IS NULL)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_limit='2000', autovacuum_analyze_scale_factor='0.02', autovacuum_analyze_threshold='1000', vacuum_index_cleanup='on', vacuum_truncate=off);

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

CREATE SEQUENCE workerjobs.fencing_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE ONLY public."workerJobLimits"
    ADD CONSTRAINT "workerJobLimits_pkey" PRIMARY KEY (kind, name);

ALTER TABLE ONLY public."workerJobPauses"
    ADD CONSTRAINT "workerJobPauses_pkey" PRIMARY KEY (kind, name);

ALTER TABLE ONLY public."workerJobResources"
    ADD CONSTRAINT "workerJobResources_pkey" PRIMARY KEY ("clusterId", "resourceUid", "runKey");

ALTER TABLE ONLY public."workerJobWorkers"
    ADD CONSTRAINT "workerJobWorkers_pkey" PRIMARY KEY (owner);

ALTER TABLE ONLY public."workerJobsMigrations"
    ADD CONSTRAINT "workerJobsMigrations_pkey" PRIMARY KEY (version);

ALTER TABLE ONLY public."workerJobs"
    ADD CONSTRAINT "workerJobs_pkey" PRIMARY KEY (id);

CREATE INDEX "workerJobs_claimable" ON public."workerJobs" USING btree (pool, type, priority DESC, due, id) WHERE ((started IS NULL) AND (finished IS NULL) AND ("concurrencyKey" IS NULL));

CREATE INDEX "workerJobs_keyed" ON public."workerJobs" USING btree (pool, "concurrencyKey", priority DESC, due, id) WHERE ((started IS NULL) AND (finished IS NULL) AND ("concurrencyKey" IS NOT NULL));

CREATE INDEX "workerJobs_pending_tag" ON public."workerJobs" USING btree (tag) WHERE ((tag IS NOT NULL) AND (started IS NULL) AND (finished IS NULL));

CREATE INDEX "workerJobs_removable" ON public."workerJobs" USING btree ("removeAt", id) WHERE ((finished IS NOT NULL) AND (NOT persistent));

CREATE INDEX "workerJobs_resource" ON public."workerJobs" USING btree ("clusterId", "resourceUid", id) WHERE ("resourceUid" IS NOT NULL);

CREATE INDEX "workerJobs_running" ON public."workerJobs" USING btree ("leaseDeadline") WHERE ((started IS NOT NULL) AND (finished IS NULL));

CREATE UNIQUE INDEX "workerJobs_tick" ON public."workerJobs" USING btree ("cronKey", tick) WHERE (("cronKey" IS NOT NULL) AND (NOT ((finished IS NOT NULL) AND (success = false) AND ((started IS NULL) OR "cancelRequested"))));

CREATE INDEX "workerJobs_unfinished_cron" ON public."workerJobs" USING btree ("cronKey") WHERE (("cronKey" IS NOT NULL) AND (finished IS NULL));

CREATE INDEX "workerJobs_unfinished_key" ON public."workerJobs" USING btree ("concurrencyKey") WHERE ((finished IS NULL) AND ("concurrencyKey" IS NOT NULL));

CREATE TRIGGER "announceCancel" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN ((new."cancelRequested" AND (NOT old."cancelRequested") AND (new.started IS NOT NULL) AND (new.finished IS NULL))) EXECUTE FUNCTION workerjobs.announce_cancel();

CREATE TRIGGER "announceInserted" AFTER INSERT ON public."workerJobs" REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION workerjobs.announce_inserted();

CREATE TRIGGER "announceLimited" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN (((new."concurrencyKey" IS NOT NULL) AND (new.finished IS NOT NULL) AND (old.finished IS NULL))) EXECUTE FUNCTION workerjobs.announce_limited();

CREATE TRIGGER "announceLimits" AFTER DELETE OR UPDATE OF concurrency, "rateLimit", "ratePeriod" ON public."workerJobLimits" FOR EACH STATEMENT EXECUTE FUNCTION workerjobs.announce_settings();

CREATE TRIGGER "announceNewLimits" AFTER INSERT ON public."workerJobLimits" FOR EACH ROW WHEN (((new.concurrency IS NOT NULL) OR (new."rateLimit" IS NOT NULL))) EXECUTE FUNCTION workerjobs.announce_settings();

CREATE TRIGGER "announcePauses" AFTER INSERT OR DELETE OR UPDATE ON public."workerJobPauses" FOR EACH STATEMENT EXECUTE FUNCTION workerjobs.announce_settings();

CREATE TRIGGER "announcePending" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN (((new.started IS NULL) AND (new.finished IS NULL))) EXECUTE FUNCTION workerjobs.announce_pending();

CREATE TRIGGER "announceResourceInserted" AFTER INSERT ON public."workerJobs" FOR EACH ROW WHEN ((new."resourceUid" IS NOT NULL)) EXECUTE FUNCTION workerjobs.announce_resource();

CREATE TRIGGER "announceResourceUpdated" AFTER UPDATE ON public."workerJobs" FOR EACH ROW WHEN (((new."resourceUid" IS NOT NULL) AND (new."updatedAt" IS DISTINCT FROM old."updatedAt"))) EXECUTE FUNCTION workerjobs.announce_resource();
