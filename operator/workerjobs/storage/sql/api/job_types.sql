-- Job types that live workers know: in which pools, and what the newest of them asks of their data.
select known.type, array_agg(distinct worker.pool order by worker.pool) as pools,
    (array_agg(
        coalesce(worker.schemas -> known.type, '{"type": "object"}') order by worker."startedAt" desc, worker.owner
    ))[1] as schema,
    exists (
        select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = known.type
    ) as is_paused
from "workerJobWorkers" as worker
cross join unnest(worker.types) as known (type)
where worker."seenAt" > now() - %(lease)s and (%(type)s::text is null or known.type = %(type)s)
group by known.type
order by known.type
