/* Jobs that were claimed and not begun have not started: their rates get these starts back. Only where the claim is less
   than one start's part of the period ago: any other start since then came on top of it. */
unused as (
    select claimed.kind, claimed.name, sum(claimed.share) as share
    from (
        select own.kind, own.name, held.started, interval '1 millisecond' * greatest(
            own."ratePeriod"::double precision / own."rateLimit",
            held."ratePeriod"::double precision / nullif(held."rateLimit", 0)
        ) as share
        from held
        join "workerJobLimits" as own on own.kind = 'key' and own.name = held."concurrencyKey"
        where not held.is_begun
        union all
        select own.kind, own.name, held.started,
            interval '1 millisecond' * (own."ratePeriod"::double precision / own."rateLimit")
        from held
        join "workerJobLimits" as own on own.kind = 'type' and own.name = held.type
        where not held.is_begun
    ) as claimed
    where claimed.started + claimed.share > now()
    group by claimed.kind, claimed.name
),
/* In one order, so that two workers that give jobs back can't wait for each other. */
rated as (
    select own.kind, own.name, unused.share
    from unused
    join "workerJobLimits" as own on own.kind = unused.kind and own.name = unused.name
    order by own.kind, own.name
    for update of own
),
given_back as (
    update "workerJobLimits" as own
    set "nextStart" = own."nextStart" - rated.share
    from rated
    where own.kind = rated.kind and own.name = rated.name
)
