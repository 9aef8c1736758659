-- What hangs on the table worker_jobs and would be lost with it.
select 'the foreign key ' || conname || ' of ' || conrelid::regclass as dependent
from pg_constraint
where contype = 'f' and confrelid = to_regclass('worker_jobs') and conrelid <> confrelid
union
select 'the view ' || rewrite.ev_class::regclass
from pg_depend as depend
join pg_rewrite as rewrite on rewrite.oid = depend.objid
where depend.classid = 'pg_rewrite'::regclass and depend.refclassid = 'pg_class'::regclass
    and depend.refobjid = to_regclass('worker_jobs') and rewrite.ev_class <> depend.refobjid
union
select 'the trigger ' || tgname from pg_trigger where tgrelid = to_regclass('worker_jobs') and not tgisinternal
union
select 'the policy ' || polname from pg_policy where polrelid = to_regclass('worker_jobs')
order by dependent
