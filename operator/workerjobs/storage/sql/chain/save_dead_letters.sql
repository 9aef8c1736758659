insert into "workerChainDeadLetters" (
    chain, filter, "blockNumber", "blockHash", "transactionHash", "logIndex", address, topics, data, reason
)
select %(chain)s, filter, block_number, block_hash, transaction_hash, log_index, address,
    string_to_array(topics, ','), data, reason
from unnest(
    %(filters)s::text[], %(block_numbers)s::bigint[], %(block_hashes)s::text[], %(transaction_hashes)s::text[],
    %(log_indexes)s::integer[], %(addresses)s::text[], %(topics)s::text[], %(data)s::text[], %(reasons)s::text[]
) as given (filter, block_number, block_hash, transaction_hash, log_index, address, topics, data, reason)
on conflict do nothing
