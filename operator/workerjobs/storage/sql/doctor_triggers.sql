-- Triggers that do not fire in ordinary sessions.
select tgname as name
from pg_trigger
where tgrelid = '"workerJobs"'::regclass and not tgisinternal and tgenabled in ('D', 'R')
order by tgname
