select chain, "chainId" as chain_id, number, hash, "finalNumber" as final_number, "startNumber" as start_number,
    condition, message, extract(epoch from now() - "conditionSince")::float8 as condition_seconds
from "workerChains"
where chain = %(chain)s
