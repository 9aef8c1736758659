-- A reason to take no more jobs is gone; without another one, workers go on.
update "workerJobWorkers" set "drainReasons" = array_remove("drainReasons", %(reason)s)
where owner = any(%(owners)s) and %(reason)s = any("drainReasons")
returning owner
