select {job_columns} from workerjobs.retry_jobs(%(ids)s) as j order by j.id
