/* What lists are narrowed by; null: by nothing. */
(%(type)s::text is null or j.type = %(type)s) and (%(tag)s::text is null or j.tag = %(tag)s)
and (%(pool)s::text is null or j.pool = %(pool)s) and (%(user_id)s::integer is null or j."userId" = %(user_id)s)
and (%(namespace)s::text is null or j.namespace = %(namespace)s)
and (%(cron_key)s::text is null or j."cronKey" = %(cron_key)s)
and case %(state)s::text
    when 'pending' then j.started is null and j.finished is null
    when 'running' then j.started is not null and j.finished is null
    when 'succeeded' then j.success
    when 'failed' then not j.success and j.started is not null and not j."cancelRequested"
    when 'cancelled' then not j.success and (j.started is null or j."cancelRequested")
    else true
end
