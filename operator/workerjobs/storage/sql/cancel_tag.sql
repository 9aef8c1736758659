select {job_columns} from workerjobs.cancel_jobs(workerjobs.unfinished_of_tag(%(tag)s), %(reason)s) as j order by j.id
