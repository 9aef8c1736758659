/* A copy of the row s, but for what the follow-up f (kind, due, attempt, cron_key, traceparent) says; only the next run
   of a cron line belongs to the line. */
s.type, s."userId", s.data, f.due, s.tag, case f.kind when 'cron' then s."cronSchedule" end,
case f.kind when 'cron' then s."timeZone" end, f.cron_key, case f.kind when 'cron' then f.due end, s.persistent,
s.priority, s.pool, s."timeoutMs", s."removeDelay", workerjobs.remove_at(f.due, s."removeDelay"),
s."autoRescheduleOnFailure", s."autoRescheduleOnFailureDelay", s."retryLimit", s."retryInitialDelay", s."retryFactor",
s."retryMaxDelay", s."retryJitter", coalesce(f.traceparent, s.traceparent), s."clusterId", s.namespace,
s."resourceName", s."resourceUid", s."resourceGeneration", f.attempt, s.id, case f.kind when 'cron' then s."catchUp" end,
case f.kind when 'cron' then s."concurrencyPolicy" end, s."dataFrom", s."concurrencyKey", s."concurrencyLimit",
s."rateLimit", s."ratePeriod"
