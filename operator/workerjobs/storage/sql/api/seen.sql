-- What a listener to changes sees at one moment: rows that it knows as unfinished, running ones, and those made since.
select {summary_columns}
from "workerJobs" as j
where j.id in (
    select unnest(%(known)s::bigint[])
    union
    (
        select running.id from "workerJobs" as running
        where running.started is not null and running.finished is null
        limit %(most)s
    )
    union
    (select made.id from "workerJobs" as made where made.id > %(last)s order by made.id limit %(most)s)
)
order by j.id
