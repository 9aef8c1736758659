select distinct "cronKey" as cron_key from "workerJobs" where "cronKey" = any(%(cron_keys)s) and finished is null
