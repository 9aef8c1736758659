select "transactionHash" as transaction_hash, "signedTransaction" as signed_transaction
from "workerChainPayments"
where "chainId" = %(chain_id)s
