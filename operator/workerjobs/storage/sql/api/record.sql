insert into "workerAudit" (actor, "tokenId", address, action, details)
values (%(actor)s, %(token_id)s, %(address)s, %(action)s, %(details)s)
