"""WorkerJobs: background jobs that live in a Postgres table and run in child processes."""
