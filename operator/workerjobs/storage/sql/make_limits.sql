-- A line for each key that has none, to be locked by those who claim under it.
insert into "workerJobLimits" (kind, name)
select 'key', name from unnest(%(keys)s::text[]) as key (name) order by name
on conflict do nothing
