-- The table's name for this connection, and the moment of its transaction.
select workerjobs.jobs_table()::text as name, now() as now
