select {job_columns} from workerjobs.store_jobs(%(jobs)s, %(replaced_tags)s) as j
