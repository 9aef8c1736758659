-- Keep others from pausing lines, and from making rows of lines pending; see workerjobs.hold_suspended.
select pg_advisory_xact_lock(hashtextextended('workerjobs cron pauses', 0))
