-- Jobs by their ids, newest first, until their data and results take so many bytes; the first one in any case.
select {job_columns}
from (
    select sized.id, sum(sized.bytes) over (order by sized.id desc) - sized.bytes as bytes_before
    from (
        select j.id, octet_length(j.data::text) + coalesce(octet_length(j.result::text), 0) as bytes
        from "workerJobs" as j
        where j.id = any(%(ids)s::bigint[])
    ) as sized
) as chosen
join "workerJobs" as j on j.id = chosen.id
where chosen.bytes_before < %(bytes)s
order by j.id desc
