-- Ask workers to stop their jobs at once and end.
update "workerJobWorkers" set "revokedAt" = now() where owner = any(%(owners)s) and "revokedAt" is null
returning owner
