update "workerChainFilterCursors"
set number = %(number)s, hash = %(hash)s, "updatedAt" = now()
where chain = %(chain)s and number >= %(number)s
