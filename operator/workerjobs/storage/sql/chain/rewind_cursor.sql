update "workerChains"
set number = %(number)s,
    hash = %(hash)s,
    "finalNumber" = least("finalNumber", %(number)s),
    "startNumber" = least("startNumber", %(number)s + 1),
    revoked = revoked + %(revoked)s,
    "updatedAt" = now()
where chain = %(chain)s
