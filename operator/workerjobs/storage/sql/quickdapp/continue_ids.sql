-- The next id follows all that were ever given, by "workerJobs" and by the sequence of worker_jobs.
select setval(pg_get_serial_sequence('"workerJobs"', 'id'), last.id)
from (
    select greatest(
        (select max(id) from "workerJobs"),
        pg_sequence_last_value(pg_get_serial_sequence('worker_jobs', 'id')::regclass),
        pg_sequence_last_value(pg_get_serial_sequence('"workerJobs"', 'id')::regclass)
    ) as id
) as last
where last.id is not null
