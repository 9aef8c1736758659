insert into "workerChainBlocks" (chain, number, hash)
select %(chain)s, number, hash
from unnest(%(numbers)s::bigint[], %(hashes)s::text[]) as block (number, hash)
on conflict (chain, number) do update set hash = excluded.hash
