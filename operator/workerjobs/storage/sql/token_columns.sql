id, name, scope, "createdAt" as created_at, "expiresAt" as expires_at, "lastUsedAt" as last_used_at,
"revokedAt" as revoked_at
