update "workerChainFilterCursors"
set number = %(number)s, hash = %(hash)s, message = null, "failingSince" = null, "updatedAt" = now()
where chain = %(chain)s and filter = any (%(filters)s::text[])
