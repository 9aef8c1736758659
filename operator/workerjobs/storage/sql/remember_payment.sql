-- Note a payment, where none is noted or the one that it replaces.
insert into "workerChainPayments" ("chainId", "transactionHash", "signedTransaction")
values (%(chain_id)s, %(transaction_hash)s, %(signed_transaction)s)
on conflict ("chainId") do update
    set "transactionHash" = excluded."transactionHash", "signedTransaction" = excluded."signedTransaction",
        "createdAt" = now()
    where "workerChainPayments"."transactionHash" = %(instead_of)s
