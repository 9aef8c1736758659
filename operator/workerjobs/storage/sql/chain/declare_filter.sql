insert into "workerChainFilters" (name, chain, event, addresses, factory, "fromBlock", action, options, enabled)
values (
    %(name)s, %(chain)s, %(event)s, %(addresses)s, %(factory)s::jsonb, %(from_block)s, %(action)s, %(options)s::jsonb,
    %(enabled)s
)
on conflict (name) do update
set chain = excluded.chain, event = excluded.event, addresses = excluded.addresses, factory = excluded.factory,
    "fromBlock" = excluded."fromBlock", action = excluded.action, options = excluded.options,
    enabled = excluded.enabled, "updatedAt" = now()
