select chain, filter, "blockNumber" as block_number, "blockHash" as block_hash, "transactionHash" as transaction_hash,
    "logIndex" as log_index, address, topics, data, reason, "createdAt" as created_at
from "workerChainDeadLetters"
where chain = %(chain)s
order by "blockNumber" desc, "logIndex" desc, id
limit %(limit)s
