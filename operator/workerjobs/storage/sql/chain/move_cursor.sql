update "workerChains"
set number = %(number)s,
    hash = %(hash)s,
    "blockTime" = to_timestamp(%(block_time)s),
    "finalNumber" = greatest("finalNumber", %(final_number)s),
    "headNumber" = %(head_number)s,
    "headTime" = to_timestamp(%(head_time)s),
    blocks = blocks + %(blocks)s,
    logs = logs + %(logs)s,
    undecodable = undecodable + %(undecodable)s,
    condition = null,
    message = null,
    "conditionSince" = null,
    "updatedAt" = now()
where chain = %(chain)s
