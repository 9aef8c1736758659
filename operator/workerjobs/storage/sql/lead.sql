-- Note who leads from now on, unless a later leadership was noted; returns the latest one.
insert into "workerJobLeaders" as leader (lease, transitions, holder)
values (%(lease)s, %(transitions)s, %(holder)s)
on conflict (lease) do update
set transitions = greatest(leader.transitions, excluded.transitions),
    holder = case when excluded.transitions > leader.transitions then excluded.holder else leader.holder end,
    "since" = case when excluded.transitions > leader.transitions then now() else leader."since" end
returning transitions, holder
