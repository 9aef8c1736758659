-- Every limit there is, with what is taken of it.
with session as (
    select datname, usename from pg_stat_activity where backend_type = 'client backend'
)
select 'server' as place, (select count(*) from session) as used,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        -- Since Postgres 16.
        - coalesce(current_setting('reserved_connections', true), '0')::int as allowed
union all
select 'database', (select count(*) from session where datname = current_database()), datconnlimit
from pg_database
where datname = current_database() and datconnlimit >= 0
union all
select 'account', (select count(*) from session where usename = current_user), rolconnlimit
from pg_roles
where rolname = current_user and rolconnlimit >= 0
