-- Limits that the code of types says; one that a person set stays.
insert into "workerJobLimits" as earlier (kind, name, concurrency, "isDeclared")
select 'type', declared.name, declared.concurrency, true
from unnest(%(names)s::text[], %(concurrencies)s::integer[]) as declared (name, concurrency)
order by declared.name
on conflict (kind, name) do update
set concurrency = excluded.concurrency, "updatedAt" = now()
where earlier."isDeclared" and earlier.concurrency is distinct from excluded.concurrency
