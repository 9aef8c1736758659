-- Remove what was set. The line of a key stays, as what its jobs say of themselves is counted there.
with cleared as (
    update "workerJobLimits" set concurrency = null, "rateLimit" = null, "ratePeriod" = null, "updatedAt" = now()
    where kind = 'key' and kind = %(kind)s and name = %(name)s and (concurrency is not null or "rateLimit" is not null)
    returning name
),
removed as (
    delete from "workerJobLimits" where kind = 'type' and kind = %(kind)s and name = %(name)s returning name
)
select name from cleared union all select name from removed
