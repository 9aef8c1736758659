select chain, endpoint, "headNumber" as head_number, "latencyMs" as latency_ms, "rangeLimit" as range_limit, requests,
    errors, trouble, "updatedAt" as updated_at
from "workerChainEndpoints"
order by chain, endpoint
