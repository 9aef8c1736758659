-- Find a token that is valid now, and note its use once a minute.
with found as (
    select id, name, scope, "lastUsedAt" from "workerApiTokens"
    where hash = %(hash)s and "revokedAt" is null and ("expiresAt" is null or "expiresAt" > now())
),
used as (
    update "workerApiTokens" as token
    set "lastUsedAt" = now()
    from found
    where token.id = found.id and (found."lastUsedAt" is null or found."lastUsedAt" < now() - interval '1 minute')
)
select id as token_id, name as actor, scope from found
