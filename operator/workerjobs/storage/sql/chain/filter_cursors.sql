select cursor.chain, cursor.filter, cursor.query, cursor.number, cursor.hash,
    chain.number - cursor.number as behind, cursor.message,
    extract(epoch from now() - cursor."failingSince")::float8 as failing_seconds
from "workerChainFilterCursors" as cursor
join "workerChains" as chain on chain.chain = cursor.chain
where %(chain)s::text is null or cursor.chain = %(chain)s
order by cursor.chain, cursor.filter
