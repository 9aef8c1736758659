-- Who did what, newest first.
select id, at, actor, "tokenId" as token_id, address, action, details
from "workerAudit"
where id < %(before)s
order by id desc
limit %(limit)s
