-- What a shop's queue might look like, for pictures, tests and measurements: so many finished rows, and some of everything
-- else. Durations, failures and hours follow from the numbers of the rows, so that every picture shows the same.
insert into "workerJobs" (
    type, pool, "userId", data, "createdAt", due, started, finished, success, result, tag, attempt, "removeAt"
)
select kind.type, kind.pool, n %% 500, json_build_object('order', 10000 + n, 'items', n %% 7 + 1), made.at, made.at,
    made.at + kind.wait, made.at + kind.wait + kind.run, not kind.fails,
    case when kind.fails then jsonb_build_object('error', kind.error) else jsonb_build_object('sent', n %% 3 + 1) end,
    null, 1, now() + interval '30 days'
from generate_series(1, %(finished)s) as n
-- The last hour is denser than what was before, and everything is a little wavy.
cross join lateral (
    select now() - interval '1 second' * (
        power((%(finished)s - n)::float8 / %(finished)s, 1.5) * least(%(finished)s, 200000) * 0.9
        + 36 + 8 * sin(n / 40.0)
    ) as at
) as made
cross join lateral (
    select (array['sendReceipt', 'sendReceipt', 'resizeImage', 'resizeImage', 'syncStock', 'chargeCard', 'exportOrders'])[n %% 7 + 1]
) as chosen (type)
cross join lateral (
    select chosen.type, case chosen.type when 'resizeImage' then 'media' when 'exportOrders' then 'reports' else 'default' end,
        case chosen.type
            when 'chargeCard' then n %% 31 = 0 when 'syncStock' then n %% 53 = 0 when 'resizeImage' then n %% 211 = 0
            else false
        end,
        case chosen.type
            when 'chargeCard' then 'CardError: your card was declined (insufficient_funds)'
            when 'syncStock' then 'TimeoutError: the warehouse did not answer within 30 s'
            else 'ValueError: cannot identify image file ''upload-' || n || '.heic'''
        end,
        interval '1 second' * (0.004 + 0.002 * (n %% 11) + 0.05 * power(sin(n / 90.0), 8)),
        interval '1 second' * case chosen.type
            when 'sendReceipt' then 0.08 + 0.01 * (n %% 9) when 'resizeImage' then 0.6 + 0.1 * (n %% 13)
            when 'syncStock' then 1.2 + 0.2 * (n %% 5) when 'chargeCard' then 0.35 + 0.05 * (n %% 7) else 6 + n %% 20
        end
) as kind (type, pool, fails, error, wait, run);
