-- One change at a time runs jobs again by a filter, or two would run the same ones.
select pg_advisory_xact_lock(hashtextextended('workerJobs.bulkRetry', 0))
