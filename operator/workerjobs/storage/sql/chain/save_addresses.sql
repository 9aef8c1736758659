insert into "workerChainAddresses" (chain, filter, address, "blockNumber")
select %(chain)s, filter, address, block_number
from unnest(%(filters)s::text[], %(addresses)s::text[], %(block_numbers)s::bigint[])
    as given (filter, address, block_number)
on conflict do nothing
