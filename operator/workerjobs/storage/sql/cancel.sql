select {job_columns} from workerjobs.cancel_jobs(%(ids)s, %(reason)s) as j order by j.id
