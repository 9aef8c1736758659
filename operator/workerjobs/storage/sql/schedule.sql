select {job_columns} from workerjobs.store_line(%(job)s) as j
