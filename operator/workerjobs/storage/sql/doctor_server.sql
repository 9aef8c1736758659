select clock_timestamp() as now, current_setting('server_version_num')::int as version, pg_is_in_recovery() as is_replica,
    current_setting('server_encoding') as encoding
