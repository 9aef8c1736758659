select {job_columns} from "workerJobs" as j where j.id = any(%(ids)s::bigint[]) order by j.id desc
