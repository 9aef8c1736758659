delete from "workerJobWorkers" where owner = %(owner)s
