insert into "workerJobLogs" ("jobId", at, level, message)
select line.* from unnest(%(ids)s::bigint[], %(ats)s::timestamptz[], %(levels)s::text[], %(messages)s::text[]) as line
