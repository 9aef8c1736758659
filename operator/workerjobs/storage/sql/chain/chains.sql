select chain, "chainId" as chain_id, number, hash, "blockTime" as block_time, "finalNumber" as final_number,
    "headNumber" as head_number, "headTime" as head_time, blocks, logs, undecodable, reorgs,
    "deepestReorg" as deepest_reorg, revoked, condition, message, "updatedAt" as updated_at
from "workerChains"
order by chain
