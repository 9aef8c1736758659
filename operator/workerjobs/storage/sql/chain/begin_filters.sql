-- Filters with a start block begin; those that ask for something else than before do so anew. The chain's cursor is locked.
with begun as (
    insert into "workerChainFilterCursors" as known (chain, filter, query, number, hash)
    select chain.chain, given.filter, given.query, least(given.from_block - 1, chain.number),
        case when given.from_block - 1 >= chain.number then chain.hash else '' end
    from unnest(%(filters)s::text[], %(queries)s::text[], %(from_blocks)s::bigint[])
        as given (filter, query, from_block)
    join "workerChains" as chain on chain.chain = %(chain)s
    on conflict (chain, filter) do update
    set query = excluded.query, number = excluded.number, hash = excluded.hash, message = null, "failingSince" = null,
        "updatedAt" = now()
    where known.query <> excluded.query
    returning filter, number
),
forgotten as (
    delete from "workerChainAddresses" where chain = %(chain)s and filter in (select filter from begun)
)
-- Where a chain that begins anew is followed from.
update "workerChains"
set "startNumber" = least("startNumber", (select min(number) + 1 from begun))
where chain = %(chain)s
