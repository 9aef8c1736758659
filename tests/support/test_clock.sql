-- A clock that the test moves: what WorkerJobs' statements call now() is found here before pg_catalog's.
create schema test_clock;
create table test_clock.state (moment timestamptz not null, server_started timestamptz not null);
insert into test_clock.state values ('2030-01-01 12:00Z', '2030-01-01 11:00Z');

create function test_clock.now() returns timestamptz
language sql stable as 'select moment from test_clock.state';
create function test_clock.clock_timestamp() returns timestamptz
language sql stable as 'select moment from test_clock.state';
create function test_clock.pg_postmaster_start_time() returns timestamptz
language sql stable as 'select server_started from test_clock.state';

do $$
declare
    each record;
begin
    execute format('alter database %I set search_path = public, test_clock, pg_catalog', current_database());
    -- Functions that bring their own search path, and defaults, which were read when the table was made.
    for each in
        select oid::regprocedure as name from pg_proc
        where pronamespace = 'workerjobs'::regnamespace and proconfig is not null
    loop
        execute format('alter function %s set search_path = public, test_clock, pg_catalog', each.name);
    end loop;
    for each in
        select class.oid::regclass as table_name, attribute.attname as column_name
        from pg_attrdef as "default"
        join pg_class as class on class.oid = "default".adrelid
        join pg_attribute as attribute on attribute.attrelid = class.oid and attribute.attnum = "default".adnum
        where class.relnamespace = 'public'::regnamespace and pg_get_expr("default".adbin, class.oid) = 'now()'
    loop
        execute format('alter table %s alter column %I set default test_clock.now()', each.table_name, each.column_name);
    end loop;
end $$;
