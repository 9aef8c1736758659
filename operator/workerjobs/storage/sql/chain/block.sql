select hash from "workerChainBlocks" where chain = %(chain)s and number = %(number)s
