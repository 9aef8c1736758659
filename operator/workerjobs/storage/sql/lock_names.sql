-- Serialise transactions that work on the same names; sorted, so that two of them can't deadlock.
select pg_advisory_xact_lock(hashtextextended(%(kind)s || ':' || name, 0))
from (select distinct unnest(%(names)s::text[]) as name order by name) as names
