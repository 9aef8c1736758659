update "workerChains"
set condition = %(condition)s, message = %(message)s,
    "conditionSince" = case when condition is not distinct from %(condition)s then "conditionSince" else now() end,
    "updatedAt" = now()
where chain = %(chain)s
