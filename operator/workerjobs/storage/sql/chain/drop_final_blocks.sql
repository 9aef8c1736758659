delete from "workerChainBlocks" where chain = %(chain)s and number < %(final_number)s
