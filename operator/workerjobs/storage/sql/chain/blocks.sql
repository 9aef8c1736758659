select number, hash from "workerChainBlocks" where chain = %(chain)s order by number desc
