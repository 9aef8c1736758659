/* A job to store, as PostgresJobStore writes it into JSON. */
type text, user_id integer, data json, due timestamptz, tag text, cron_schedule text, time_zone text, cron_key text,
tick timestamptz, persistent boolean, priority smallint, pool text, timeout_ms integer, remove_delay_ms integer,
auto_reschedule_on_failure boolean, auto_reschedule_on_failure_delay_ms integer, retry_limit integer,
retry_initial_delay_ms integer, retry_factor double precision, retry_max_delay_ms integer, traceparent text,
cluster_id text, namespace text, resource_name text, resource_uid text, resource_generation bigint,
concurrency_key text, concurrency_limit integer, rate_limit integer, rate_period_ms integer
