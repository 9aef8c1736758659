-- A worker whose pod is gone has stopped its jobs.
update "workerJobWorkers" set "revocationSeenAt" = now() where owner = %(owner)s
