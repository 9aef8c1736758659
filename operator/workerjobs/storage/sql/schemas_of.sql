-- What the live workers of a pool that know a type ask of its data; several things while two releases run side by side.
select coalesce(worker.schemas -> %(type)s, '{"type": "object"}') as schema
from "workerJobWorkers" as worker
where worker.pool = %(pool)s and %(type)s = any (worker.types) and worker."seenAt" > now() - %(lease)s
group by 1
order by max(worker."startedAt") desc
