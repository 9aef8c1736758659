insert into "workerApiTokens" (name, scope, hash, "expiresAt")
values (%(name)s, %(scope)s, %(hash)s, now() + %(lasts)s)
on conflict (name) where "revokedAt" is null do nothing
returning {token_columns}
