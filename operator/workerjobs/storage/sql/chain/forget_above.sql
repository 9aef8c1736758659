with letters as (
    delete from "workerChainDeadLetters" where chain = %(chain)s and "blockNumber" > %(number)s
)
delete from "workerChainAddresses" where chain = %(chain)s and "blockNumber" > %(number)s
