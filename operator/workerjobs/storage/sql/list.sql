select {job_columns}
from "workerJobs" as j
where j.id < %(before)s and {job_filters}
order by j.id desc
limit %(limit)s
