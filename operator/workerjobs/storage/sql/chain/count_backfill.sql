update "workerChains"
set logs = logs + %(logs)s, undecodable = undecodable + %(undecodable)s, "updatedAt" = now()
where chain = %(chain)s
