/* Whether a job that was stored later is to replace a run, which has its tag. The next row of the run's own line does not
   count. */
exists (
    select 1 from "workerJobs" as newer
    where newer.tag = s.tag and newer.started is null and newer.finished is null and newer.id > s.id
        and (s."cronSchedule" is null or newer."cronKey" is distinct from s."cronKey")
)
