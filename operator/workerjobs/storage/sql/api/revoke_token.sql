update "workerApiTokens" set "revokedAt" = now() where name = %(name)s and "revokedAt" is null returning {token_columns}
