select {summary_columns}
from "workerJobs" as j
where j.success = false and j.id < %(before)s and j.id >= %(floor)s and {job_filters}
order by j.id desc
limit %(limit)s
