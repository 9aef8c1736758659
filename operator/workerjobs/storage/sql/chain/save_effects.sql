-- What logs of a step led to: each once. What a reorganisation undid and another one brought back holds again.
with given as (
    select *
    from unnest(
        %(block_numbers)s::bigint[], %(block_hashes)s::text[], %(log_indexes)s::integer[], %(filters)s::text[],
        %(places)s::smallint[], %(transaction_hashes)s::text[], %(user_ids)s::integer[], %(data)s::text[]
    ) with ordinality as given (
        block_number, block_hash, log_index, filter, place, transaction_hash, user_id, data, ordinal
    )
),
saved as (
    insert into "workerChainEffects" as effect (
        chain, "blockNumber", "blockHash", "logIndex", filter, place, "transactionHash", "notificationId"
    )
    select %(chain)s, block_number, block_hash, log_index, filter, place, transaction_hash,
        case when user_id is not null then nextval(pg_get_serial_sequence('notifications', 'id')) end
    from given
    order by ordinal
    on conflict (chain, "blockHash", "logIndex", filter, place) do update set "revokedAt" = null
    where effect."revokedAt" is not null
    returning id, "blockHash", "logIndex", filter, place, "notificationId", xmax <> 0 as is_restored
),
matched as (
    select given.ordinal, given.user_id, given.data, saved.id, saved."notificationId" as notification_id,
        saved.is_restored
    from saved
    join given on given.block_hash = saved."blockHash" and given.log_index = saved."logIndex"
        and given.filter = saved.filter and given.place = saved.place
),
created as (
    insert into notifications (id, user_id, data)
    select notification_id, user_id, data::json
    from matched
    where notification_id is not null and not is_restored
    order by ordinal
),
restored as (
    update notifications
    set data = matched.data::json, updated_at = now()
    from matched
    where matched.is_restored and notifications.id = matched.notification_id
),
announced as (
    select workerjobs.announce_notifications(
        case when is_restored then 'restored' else 'created' end, array_agg(notification_id order by ordinal)
    )
    from matched
    where notification_id is not null
    group by is_restored
)
select matched.ordinal, matched.id, (select count(*) from announced) as announced
from matched
order by matched.ordinal
