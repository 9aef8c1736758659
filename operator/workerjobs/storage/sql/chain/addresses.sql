select filter, array_agg(address order by address) as addresses
from "workerChainAddresses"
where chain = %(chain)s
group by filter
