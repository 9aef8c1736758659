insert into "workerChainFilters" (name, chain, event, addresses, factory, action, options, enabled)
values (
    %(name)s, %(chain)s, %(event)s, %(addresses)s, %(factory)s::jsonb, %(action)s, %(options)s::jsonb, %(enabled)s
)
on conflict (name) do update
set chain = excluded.chain, event = excluded.event, addresses = excluded.addresses, factory = excluded.factory,
    action = excluded.action, options = excluded.options, enabled = excluded.enabled, "updatedAt" = now()
