-- Waiting now, and later.
insert into "workerJobs" (type, pool, data, due, "createdAt", tag)
select 'resizeImage', 'media', json_build_object('image', 'upload-' || n || '.jpg', 'widths', array[320, 1280]),
    now() - interval '1 second' * n / 8, now() - interval '1 second' * n / 8, case when n % 9 = 0 then 'gallery-' || n / 9 end
from generate_series(1, 46) as n;
insert into "workerJobs" (type, data, due) values
    ('sendReceipt', '{"order": 20417}', now() + interval '3 hours'),
    ('sendReceipt', '{"order": 20418}', now() + interval '26 hours');
-- Running, with progress.
insert into "workerJobs" (type, pool, data, due, "createdAt", started, "leaseOwner", "leaseDeadline", "fencingToken", progress)
select running.type, running.pool, '{"month": "2026-10", "format": "csv"}', now() - running.age - interval '0.02 s',
    now() - running.age - interval '0.02 s', now() - running.age, running.owner, now() + interval '1 day', 900000 + running.n,
    running.progress::jsonb
from (values
    (1, 'exportOrders', 'reports', interval '41 s', 'reports-1', '{"current": 61200, "total": 90000, "message": "Orders of October"}'),
    (2, 'exportOrders', 'reports', interval '12 s', 'reports-1', '{"current": 8100, "total": 84000, "message": "Orders of September"}'),
    (3, 'resizeImage', 'media', interval '1.1 s', 'media-1', '{"current": 1, "total": 2}'),
    (4, 'resizeImage', 'media', interval '0.7 s', 'media-2', null),
    (5, 'syncStock', 'default', interval '2.4 s', 'default-1', '{"message": "Warehouse Hamburg"}')
) as running (n, type, pool, age, owner, progress);
insert into "workerJobLogs" ("jobId", at, level, message)
select j.id, j.started + interval '1 second' * said.after, said.level, said.message
from "workerJobs" as j
cross join (values
    (0.004, 'info', 'Exporting orders as csv'),
    (0.031, 'info', 'Found 90000 orders of 2026-10 in 12 shops'),
    (8.412, 'info', '20000 orders written'),
    (11.907, 'warn', 'Order 18231 has no address: it goes to the rest'),
    (16.250, 'info', '40000 orders written'),
    (22.018, 'error', 'The storage did not take part 5: 503 Slow Down; it is sent again in 2 s'),
    (24.127, 'info', 'Part 5 is stored'),
    (25.300, 'info', '60000 orders written'),
    (25.301, 'debug', 'Memory: 84 MiB, of which the writer''s buffer 32 MiB; open files: 3; next part: 6 of 9, '
        'from order 61201 on, sorted by shop, day and number')
) as said (after, level, message)
where j.type = 'exportOrders' and j.started is not null and j.finished is null and j.progress ->> 'current' = '61200'
order by j.id, said.after;
-- A job that was tried three times.
with first as (
    insert into "workerJobs" (type, data, due, "createdAt", started, finished, success, result, "retryLimit", "removeAt")
    values ('chargeCard', '{"order": 20399, "amount": "129.90", "currency": "EUR"}', now() - interval '9 min',
        now() - interval '9 min', now() - interval '9 min', now() - interval '9 min' + interval '0.4 s', false,
        '{"error": "GatewayError: 502 from the payment provider"}', 3, now() + interval '30 days')
    returning id
), second as (
    insert into "workerJobs" (
        type, data, due, "createdAt", started, finished, success, result, "retryLimit", attempt, "rescheduledFromJob", "removeAt"
    )
    select 'chargeCard', '{"order": 20399, "amount": "129.90", "currency": "EUR"}', now() - interval '8 min 50 s',
        now() - interval '9 min', now() - interval '8 min 50 s', now() - interval '8 min 49.6 s', false,
        '{"error": "GatewayError: 502 from the payment provider"}', 3, 2, first.id, now() + interval '30 days'
    from first
    returning id
)
insert into "workerJobs" (
    type, data, due, "createdAt", started, finished, success, result, "retryLimit", attempt, "rescheduledFromJob",
    traceparent, "userId", "removeAt"
)
select 'chargeCard', '{"order": 20399, "amount": "129.90", "currency": "EUR"}', now() - interval '8 min 30 s',
    now() - interval '8 min 49 s', now() - interval '8 min 30 s', now() - interval '8 min 29.6 s', false,
    '{"error": "CardError: your card was declined (insufficient_funds)"}', 3, 3, second.id,
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 217, now() + interval '30 days'
from second;
-- Cron jobs, with runs that ended.
insert into "workerJobs" (type, "cronSchedule", "cronKey", tag, tick, due, "timeZone", pool)
select line.type, line.schedule, line.key, line.key, now() + line.ahead, now() + line.ahead, line.zone, line.pool
from (values
    ('removeOldWorkerJobs', '0 0 * * * *', 'remove-old', interval '22 min', null, 'default'),
    ('syncStock', '*/15 * * * *', 'sync-stock', interval '7 min', null, 'default'),
    ('exportOrders', '0 6 * * MON-FRI', 'morning-report', interval '5 hours', 'Europe/Berlin', 'reports'),
    ('sendReceipt', '0 9,17 * * *', 'reminders', interval '8 hours', 'Europe/Berlin', 'default'),
    ('watchChain', '*/3 * * * * *', 'watch-base', interval '2 s', null, 'default')
) as line (type, schedule, key, ahead, zone, pool);
insert into "workerJobs" (
    type, "cronKey", "cronSchedule", tick, due, "createdAt", started, finished, success, result, pool, "removeAt"
)
select 'syncStock', 'sync-stock', '*/15 * * * *', ran.at, ran.at, ran.at - interval '15 min', ran.at, ran.at + interval '2 s',
    n <> 4, case when n = 4 then '{"error": "TimeoutError: the warehouse did not answer within 30 s"}'::jsonb end, 'default',
    now() + interval '30 days'
from generate_series(1, 10) as n
cross join lateral (select now() - interval '15 min' * n + interval '7 min' as at) as ran;
insert into "workerJobWorkers" (
    owner, pool, host, pid, version, children, types, "isDraining", "startedAt", "seenAt", namespace, "podName", "podUid", "drainReasons"
)
select own.owner, own.pool, own.owner, 1, '0.1.0', own.children, own.types, own.drains, now() - own.age, now() + interval '1 day',
    'shop', own.owner, 'uid-' || own.owner, case when own.drains then array['ScaleDown'] else '{}' end
from (values
    ('default-1', 'default', 4, array['sendReceipt', 'syncStock', 'chargeCard', 'removeOldWorkerJobs', 'watchChain'], false, interval '3 d 4 h'),
    ('default-2', 'default', 4, array['sendReceipt', 'syncStock', 'chargeCard', 'removeOldWorkerJobs', 'watchChain'], true, interval '9 h'),
    ('media-1', 'media', 1, array['resizeImage'], false, interval '52 min'),
    ('media-2', 'media', 1, array['resizeImage'], false, interval '52 min'),
    ('reports-1', 'reports', 2, array['exportOrders'], false, interval '6 h')
) as own (owner, pool, children, types, drains, age);
update "workerJobWorkers" set schemas = '{"resizeImage": {"type": "object", "required": ["image"], "properties":
    {"image": {"type": "string"}, "widths": {"type": "array", "items": {"type": "integer"}, "default": [320]}}}}'
where pool = 'media';
insert into "workerChains" (
    chain, "chainId", number, hash, "blockTime", "finalNumber", "startNumber", "headNumber", "headTime", blocks, logs, reorgs,
    "deepestReorg", revoked
) values
    ('base', 8453, 24118404, '0x5d2c19ab77e0', now() - interval '2 s', 24118340, 24000000, 24118404, now() - interval '2 s', 118404, 51877, 3, 2, 4),
    ('ethereum', 1, 21280010, '0x9f0a4b1c22d8', now() - interval '5 min', 21279950, 21000000, 21280035, now() - interval '8 s', 280010, 9312, 0, 0, 0);
insert into "workerChainEndpoints" (chain, endpoint, "headNumber", "latencyMs", "rangeLimit", requests, errors, trouble) values
    ('base', 'base-rpc.example', 24118404, 84, 10000, 88120, '{}', null),
    ('ethereum', 'eth-one.example', 21280035, 131, 2000, 40211, '{"rate limit": 212}', 'asks to wait 12 s'),
    ('ethereum', 'eth-two.example', 21280034, 190, 500, 12902, '{"timeout": 3}', null);
insert into "workerPools" (uid, "clusterId", namespace, name, pool, desired, replicas, ready, reason, message) values
    ('u1', 'c1', 'shop', 'media', 'media', 4, 2, 2, 'JobsWaiting',
        '46 jobs due and 2 running, about 0.9 s each: 4 pods are done within 10 s'),
    ('u2', 'c1', 'shop', 'default', 'default', 1, 2, 2, 'FewerJobs', '1 job running; 1 pod drains before it goes');
insert into "workerAudit" (at, actor, address, action, details) values
    (now() - interval '2 h', 'ada', '10.0.3.7', 'pools.pause', '{"name": "reports", "reason": "the database moves"}'),
    (now() - interval '1 h 50 min', 'ada', '10.0.3.7', 'pools.resume', '{"name": "reports"}'),
    (now() - interval '12 min', 'deploy', '10.0.1.2', 'jobs.submit', '{"type": "exportOrders", "pool": "reports", "id": 4711}');
