-- Nobody reads or writes either table until the one is the other.
lock table worker_jobs, "workerJobs" in access exclusive mode
