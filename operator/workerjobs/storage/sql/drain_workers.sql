-- Ask workers to take no more jobs, for a reason of several that there may be. Those not asked before hear of it.
update "workerJobWorkers" set "drainReasons" = array_append("drainReasons", %(reason)s)
where owner = any(%(owners)s) and not %(reason)s = any("drainReasons")
returning owner
