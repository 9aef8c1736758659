-- Whether an operator still leads; until the transaction ends nobody can take over.
select from "workerJobLeaders"
where lease = %(lease)s and transitions = %(transitions)s and holder = %(holder)s
for share
