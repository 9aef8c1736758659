-- Down to which block a part of an undoing goes, so that its transaction stays short.
select coalesce(max("blockNumber"), %(number)s) as number
from (
    select "blockNumber"
    from "workerChainEffects"
    where chain = %(chain)s and "blockNumber" > %(number)s and "revokedAt" is null
    order by "blockNumber" desc
    offset %(limit)s
    limit 1
) as beyond
