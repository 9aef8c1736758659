drop table worker_jobs
