select {job_columns}
from "workerJobs" as j
where (%(type)s::text is null or j.type = %(type)s)
    and (%(tag)s::text is null or j.tag = %(tag)s)
    and case %(state)s::text
        when 'pending' then j.started is null and j.finished is null
        when 'running' then j.started is not null and j.finished is null
        when 'succeeded' then j.success
        when 'failed' then not j.success and j.started is not null and not j."cancelRequested"
        when 'cancelled' then not j.success and (j.started is null or j."cancelRequested")
        else true
    end
order by j.id desc
limit %(limit)s
