-- One writer a chain: whoever holds this row commits next, and the others find that the cursor has moved.
select number, hash from "workerChains" where chain = %(chain)s for update
