insert into "workerChainEndpoints" as endpoint (
    chain, endpoint, "headNumber", "latencyMs", "rangeLimit", requests, errors, trouble
)
values (
    %(chain)s, %(endpoint)s, %(head_number)s, %(latency_ms)s, %(range_limit)s, %(requests)s, %(errors)s::jsonb,
    %(trouble)s
)
on conflict (chain, endpoint) do update
set "headNumber" = excluded."headNumber",
    "latencyMs" = excluded."latencyMs",
    "rangeLimit" = excluded."rangeLimit",
    requests = endpoint.requests + excluded.requests,
    errors = (
        select coalesce(jsonb_object_agg(class, count), '{}')
        from (
            select class, sum(value::bigint) as count
            from (
                select * from jsonb_each_text(endpoint.errors)
                union all
                select * from jsonb_each_text(excluded.errors)
            ) as both_sides (class, value)
            group by class
        ) as sums
    ),
    trouble = excluded.trouble,
    "updatedAt" = now()
