-- Who may do what with the table worker_jobs; grantee null is everyone.
select role.rolname as grantee, array_agg(acl.privilege_type order by acl.privilege_type) as privileges
from pg_class as class
cross join lateral aclexplode(coalesce(class.relacl, acldefault('r', class.relowner))) as acl
left join pg_roles as role on role.oid = acl.grantee
where class.oid = to_regclass('worker_jobs') and acl.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
group by role.rolname
order by role.rolname
