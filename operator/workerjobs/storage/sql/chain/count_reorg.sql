update "workerChains"
set reorgs = reorgs + 1, "deepestReorg" = greatest("deepestReorg", %(depth)s)
where chain = %(chain)s
