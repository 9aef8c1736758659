-- Notifications to users and broadcasts, written in the caller's own transaction; payments of deployMulticall3.

-- Told to everybody who listens. (What users are told is in QuickDapp's table notifications.)
create table "workerBroadcasts" (
    id bigint generated always as identity primary key,
    data json not null,
    "createdAt" timestamptz not null default now()
);

-- Notify a user; returns the notification's id. Announced when the transaction commits, with the id alone.
create function workerjobs.notify(user_id integer, data json) returns integer
language plpgsql set search_path from current as $$
declare
    stored integer;
begin
    if json_typeof(data) is distinct from 'object' then
        perform workerjobs.refuse('the data of a notification is no JSON object', 'Give an object.');
    end if;
    insert into notifications (user_id, data) values (notify.user_id, notify.data) returning id into stored;
    perform workerjobs.announce_notifications('created', array[stored]::bigint[]);
    return stored;
exception when foreign_key_violation then
    raise no_data_found using message = format('there is no user %s', user_id);
end $$;

-- Tell everybody who listens; returns the broadcast's id.
create function workerjobs.broadcast(data json) returns bigint
language plpgsql set search_path from current as $$
declare
    stored bigint;
begin
    if json_typeof(data) is distinct from 'object' then
        perform workerjobs.refuse('the data of a broadcast is no JSON object', 'Give an object.');
    end if;
    insert into "workerBroadcasts" (data) values (broadcast.data) returning id into stored;
    perform workerjobs.announce_notifications('broadcast', array[stored]);
    return stored;
end $$;

-- Which transaction wrote a row, as a number that only grows. Rows keep the lower half of it alone (xmin); whoever sees a
-- row knows that the other half is the newest that makes it smaller than what began since.
create function workerjobs.full_xid(short xid, current pg_snapshot) returns bigint
language sql immutable as $$
    select case when candidate < ceiling then candidate else candidate - 4294967296 end
    from (
        select ceiling, (ceiling & -4294967296) + short::text::bigint as candidate
        from (select pg_snapshot_xmax(current)::text::bigint as ceiling) as given
    ) as guess
$$;

-- Payments from the server wallet that deployMulticall3 made, by chain: stored before they are sent, so that whoever goes
-- on after a crash sends the very same one.
create table "workerChainPayments" (
    "chainId" bigint primary key,
    "transactionHash" text not null,
    "signedTransaction" text not null,
    "createdAt" timestamptz not null default now()
);
