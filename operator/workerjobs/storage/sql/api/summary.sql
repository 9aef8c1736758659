select {summary_columns} from "workerJobs" as j where j.id = %(id)s
