select version from "workerJobsMigrations" order by version
