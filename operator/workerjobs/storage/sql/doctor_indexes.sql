select class.relname as name, pg_relation_size(class.oid) as bytes, class.reltuples::double precision as entries,
    index.indisvalid as is_valid
from pg_index as index
join pg_class as class on class.oid = index.indexrelid
where index.indrelid = '"workerJobs"'::regclass
order by class.relname
