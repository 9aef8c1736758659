-- Which of some filters are processed up to a block. None moves, as the chain's cursor is locked.
select filter
from "workerChainFilterCursors"
where chain = %(chain)s and filter = any (%(filters)s::text[]) and number = %(number)s and hash in ('', %(hash)s)
