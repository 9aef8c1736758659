/* What lists are narrowed by; null: by nothing. */
(%(type)s::text is null or j.type = %(type)s) and (%(tag)s::text is null or j.tag = %(tag)s)
and (%(pool)s::text is null or j.pool = %(pool)s) and (%(user_id)s::integer is null or j."userId" = %(user_id)s)
and (%(namespace)s::text is null or j.namespace = %(namespace)s)
and (%(cron_key)s::text is null or j."cronKey" = %(cron_key)s)
and (%(since)s::timestamptz is null or coalesce(j.finished, j."createdAt") >= %(since)s)
and (%(until)s::timestamptz is null or coalesce(j.finished, j."createdAt") < %(until)s)
and (not %(is_last)s::boolean or not {was_run_again})
and (%(states)s::text[] is null or {job_state} = any(%(states)s))
