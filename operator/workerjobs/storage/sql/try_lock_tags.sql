-- Keep others from storing jobs of these tags until this transaction ends, and return the tags of which nobody stores one
-- right now. The locks are those of workerjobs.lock_names.
with every_tag as materialized (
    select pg_try_advisory_xact_lock_shared(hashtextextended('tag', 0)) as is_free
)
select given.tag
from every_tag
cross join (select distinct unnest(%(tags)s::text[]) as tag) as given
where every_tag.is_free and pg_try_advisory_xact_lock(hashtextextended('tag:' || given.tag, 0))
