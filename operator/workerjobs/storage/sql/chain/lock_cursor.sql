-- One writer a chain: whoever holds this row commits next, and the others find that the cursor has moved.
select number, hash, "finalNumber" as final_number from "workerChains" where chain = %(chain)s for update
