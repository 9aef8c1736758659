update "workerChainFilterCursors"
set message = %(message)s, "failingSince" = coalesce("failingSince", now()), "updatedAt" = now()
where chain = %(chain)s and filter = any (%(filters)s::text[])
