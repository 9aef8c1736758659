-- Forget workers that ended without a word.
delete from "workerJobWorkers" where owner = any(%(owners)s)
