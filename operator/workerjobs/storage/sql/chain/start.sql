insert into "workerChains" (
    chain, "chainId", number, hash, "blockTime", "finalNumber", "startNumber", "headNumber", "headTime"
)
values (
    %(chain)s, %(chain_id)s, %(number)s, %(hash)s, to_timestamp(%(block_time)s), %(final_number)s, %(start_number)s,
    %(head_number)s, to_timestamp(%(head_time)s)
)
on conflict (chain) do nothing
