-- What worker_jobs is: its pg_class.relkind, and the comment by which WorkerJobs' own view is known.
select class.relkind::text as kind, obj_description(class.oid, 'pg_class') as comment
from pg_class as class
where class.oid = to_regclass('worker_jobs')
