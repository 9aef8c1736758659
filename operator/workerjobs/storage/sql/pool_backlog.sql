-- How many jobs of a pool are due and not started, counted up to a number that no scaling asks beyond, and how many run.
select (
    select count(*) from (
        select from "workerJobs" as pending
        where pending.started is null and pending.finished is null and pending.pool = %(pool)s and pending.due <= now()
            and not exists (select from "workerJobPauses" as pause where pause.kind = 'pool' and pause.name = %(pool)s)
            and not exists (
                select from "workerJobPauses" as pause where pause.kind = 'type' and pause.name = pending.type
            )
        limit %(most)s
    ) as waiting
) as backlog, (
    select count(*) from "workerJobs" as running
    where running.started is not null and running.finished is null and running.pool = %(pool)s
) as running
