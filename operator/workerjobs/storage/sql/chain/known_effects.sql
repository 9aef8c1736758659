-- What is known already of blocks of a step: a reorganisation undid it and another one brought its block back, or a filter
-- goes through its blocks again.
select "blockHash" as block_hash, "logIndex" as log_index, filter, place, "revokedAt" is null as holds
from "workerChainEffects"
where chain = %(chain)s and "blockNumber" between %(first)s and %(last)s and filter = any (%(filters)s::text[])
