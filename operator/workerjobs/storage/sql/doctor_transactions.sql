-- What is open, oldest first. Without the right to see others' sessions, only the account's own.
select coalesce(nullif(application_name, ''), 'a session') || ', pid ' || pid as name,
    coalesce(state, 'unknown') as state, now() - xact_start as age
from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and xact_start is not null
    and pid <> pg_backend_pid()
union all
select gid, 'prepared', now() - prepared from pg_prepared_xacts where database = current_database()
order by age desc, name
limit 100
