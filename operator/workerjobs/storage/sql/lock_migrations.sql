select pg_advisory_xact_lock(hashtextextended('workerJobs.migrations', 0))
