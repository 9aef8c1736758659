-- Whether an operator still leads. Until the transaction ends nobody can take over; where the operator is stopped in the
-- middle of it, the server ends it soon.
select set_config('idle_in_transaction_session_timeout', '2s', true) from "workerJobLeaders"
where lease = %(lease)s and transitions = %(transitions)s and holder = %(holder)s
for share
