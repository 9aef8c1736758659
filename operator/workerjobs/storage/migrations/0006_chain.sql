-- Watched chains: how far each is processed, what its logs led to, and what could not be read.

-- One line a chain: its cursor, which whoever commits a step locks, and what became of it so far.
create table "workerChains" (
    chain text primary key,
    "chainId" bigint not null,
    -- The last processed block.
    number bigint not null,
    hash text not null,
    -- Moment of that block.
    "blockTime" timestamptz not null,
    -- The newest processed block that can't be undone any more.
    "finalNumber" bigint not null,
    "startNumber" bigint not null,
    -- The newest block that an endpoint has shown.
    "headNumber" bigint not null,
    "headTime" timestamptz not null,
    blocks bigint not null default 0,
    logs bigint not null default 0,
    undecodable bigint not null default 0,
    reorgs bigint not null default 0,
    "deepestReorg" bigint not null default 0,
    revoked bigint not null default 0,
    -- Why processing stands still until somebody decides; null while all is well.
    condition text,
    message text,
    "conditionSince" timestamptz,
    "createdAt" timestamptz not null default now(),
    "updatedAt" timestamptz not null default now()
);

-- Hashes of processed blocks that may still be undone, and of the newest one that may not.
create table "workerChainBlocks" (
    chain text not null references "workerChains" on delete cascade,
    number bigint not null,
    hash text not null,
    primary key (chain, number)
);

-- What logs led to. The key makes it happen once for each log of each block, however often that is read; it begins with the
-- block, so that new ones are put at its end, and finds what a reorganisation undoes.
create table "workerChainEffects" (
    chain text not null,
    "blockNumber" bigint not null,
    "blockHash" text not null,
    "logIndex" integer not null,
    filter text not null,
    -- A handler may do several things for one log.
    place smallint not null default 0,
    "transactionHash" text not null,
    "notificationId" integer,
    "jobId" bigint,
    -- When a reorganisation undid it; null: it holds.
    "revokedAt" timestamptz,
    "createdAt" timestamptz not null default now(),
    primary key (chain, "blockNumber", "blockHash", "logIndex", filter, place)
);

-- Contracts that factories made, for filters that watch those.
create table "workerChainAddresses" (
    chain text not null,
    filter text not null,
    address text not null,
    "blockNumber" bigint not null,
    primary key (chain, filter, address)
);

-- How far filters with a start block of their own are. Each catches up by itself; level with the chain's cursor it moves
-- along with it.
create table "workerChainFilterCursors" (
    chain text not null references "workerChains" on delete cascade,
    filter text not null,
    -- What it asks for, and from which block on: where that changes, it begins anew.
    query text not null,
    -- The last block that it was processed for, never above the chain's own.
    number bigint not null,
    -- Empty until a block was read.
    hash text not null,
    -- Why its logs can't be handled; null while all is well.
    message text,
    "failingSince" timestamptz,
    "updatedAt" timestamptz not null default now(),
    primary key (chain, filter)
);

-- Logs that have a filter's topic and not its form, or whose handler raises each time.
create table "workerChainDeadLetters" (
    id bigint generated always as identity primary key,
    chain text not null,
    filter text not null,
    "blockNumber" bigint not null,
    "blockHash" text not null,
    "transactionHash" text not null,
    "logIndex" integer not null,
    address text not null,
    topics text[] not null,
    data text not null,
    reason text not null,
    "createdAt" timestamptz not null default now(),
    constraint "workerChainDeadLetters_once" unique (chain, "blockHash", "logIndex", filter)
);

-- Filters declared as data.
create table "workerChainFilters" (
    name text primary key,
    -- Null: on every chain that is watched.
    chain text,
    event text not null,
    -- Null: of any contract.
    addresses text[],
    -- {"addresses": [...], "event": text, "parameter": text}: the contracts that these factories made.
    factory jsonb,
    -- The first block whose logs it wants, also where the chain is processed further already; null: those to come.
    "fromBlock" bigint,
    -- enqueue, notify or webhook.
    action text not null,
    -- What the action needs: {"type", "data", "pool"}, {"user", "data"} or {"url", "secretEnv", "pool"}.
    options jsonb not null default '{}',
    enabled boolean not null default true,
    "createdAt" timestamptz not null default now(),
    "updatedAt" timestamptz not null default now(),
    constraint "workerChainFilters_action" check (action in ('enqueue', 'notify', 'webhook')),
    constraint "workerChainFilters_fromBlock" check ("fromBlock" >= 0)
);

-- How endpoints do, as the job that uses them says.
create table "workerChainEndpoints" (
    chain text not null,
    -- Host and place in the list; never the URL, which holds a key.
    endpoint text not null,
    "headNumber" bigint,
    "latencyMs" double precision,
    -- The widest range of blocks that it answers, as far as is known.
    "rangeLimit" bigint,
    requests bigint not null default 0,
    -- By class: {"rate": 3, …}.
    errors jsonb not null default '{}',
    -- Why it is left alone for now; null: it is not.
    trouble text,
    "updatedAt" timestamptz not null default now(),
    primary key (chain, endpoint)
);

-- Announcements of notifications, over a channel of their own, as JSON:
--   {"kind": "created" | "revoked" | "restored", "ids": [of rows of notifications]}
create function workerjobs.announce_notifications(kind text, ids bigint[]) returns void
language plpgsql as $$
declare
    first integer;
begin
    -- A payload holds less than 8,000 bytes.
    for first in select generate_series(1, coalesce(array_length(ids, 1), 0), 500) loop
        perform pg_notify('workerNotifications', json_build_object(
            'kind', kind, 'ids', to_json(ids[first : first + 499])
        )::text);
    end loop;
end $$;
