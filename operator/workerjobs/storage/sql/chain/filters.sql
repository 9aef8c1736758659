select name, chain, event, addresses, factory, action, options, enabled
from "workerChainFilters"
order by name
