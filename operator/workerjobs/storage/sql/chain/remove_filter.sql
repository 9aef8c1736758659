delete from "workerChainFilters" where name = %(name)s returning name
