/* Leases with a later deadline are alive. For one lease after the server's start all are, as owners could not renew; and
   for who asked a while ago, as after an outage: their renewals arrive together with this. */
case
    when now() - pg_postmaster_start_time() < %(lease)s or now() - coalesce(%(asked)s::timestamptz, now()) > %(lease)s / 3
        then timestamptz '-infinity'
    else now()
end
