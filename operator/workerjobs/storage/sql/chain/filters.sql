select name, chain, event, addresses, factory, "fromBlock" as from_block, action, options, enabled
from "workerChainFilters"
order by name
