-- One whose pod is gone stays: whoever is started in that pod yet has to end as well.
delete from "workerJobWorkers" where owner = %(owner)s and "revokedAt" is null
