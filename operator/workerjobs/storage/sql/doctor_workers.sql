select count(*) as count from "workerJobWorkers" where "seenAt" > now() - %(silence)s
