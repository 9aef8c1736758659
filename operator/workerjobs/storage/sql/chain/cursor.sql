select chain, "chainId" as chain_id, number, hash, "finalNumber" as final_number, "startNumber" as start_number,
    condition, message
from "workerChains"
where chain = %(chain)s
