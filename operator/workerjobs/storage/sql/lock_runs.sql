-- Keep others from changing running rows until this transaction ends, and return which of them are replaced already.
select s.id, {newer_of_tag} as is_replaced
from "workerJobs" as s
where s.id = any(%(ids)s::bigint[])
order by s.id
for no key update of s
