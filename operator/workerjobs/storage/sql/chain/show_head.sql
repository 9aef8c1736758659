update "workerChains"
set "headNumber" = %(head_number)s, "headTime" = to_timestamp(%(head_time)s)
where chain = %(chain)s and "headNumber" <> %(head_number)s
