/* Types with limits of their own have permits free now; for keys a trigger says it. */
select workerjobs.announce_type(own.name)
from (select distinct type from settled) as ended
join "workerJobLimits" as own on own.kind = 'type' and own.name = ended.type
