-- Set all of a limit. Starts noted under another rate would say nothing under this one.
insert into "workerJobLimits" as earlier (kind, name, concurrency, "rateLimit", "ratePeriod")
values (%(kind)s, %(name)s, %(concurrency)s, %(rate_limit)s, %(rate_period_ms)s)
on conflict (kind, name) do update
set concurrency = excluded.concurrency, "rateLimit" = excluded."rateLimit", "ratePeriod" = excluded."ratePeriod",
    "nextStart" = case
        when (earlier."rateLimit", earlier."ratePeriod") is not distinct from (excluded."rateLimit", excluded."ratePeriod")
            then earlier."nextStart"
    end,
    "isDeclared" = false, "updatedAt" = now()
