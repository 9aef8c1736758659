-- Every statement here finds its rows by an index. What the planner expects of them depends on when statistics were taken:
-- of a queue that was empty then, it would scan the table, and compile code for rows that never come.
select set_config('jit', 'off', false), set_config('enable_seqscan', 'off', false)
