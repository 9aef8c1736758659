-- What logs of a step led to, with the notifications that it makes; jobs were submitted before.
with sequence as materialized (
    -- Looked up once, and not for each row.
    select pg_get_serial_sequence('notifications', 'id')::regclass as of_notifications
),
given as materialized (
    select given.*,
        case when user_id is not null then nextval((select of_notifications from sequence)) end as notification_id
    from unnest(
        %(block_numbers)s::bigint[], %(block_hashes)s::text[], %(log_indexes)s::integer[], %(filters)s::text[],
        %(places)s::smallint[], %(transaction_hashes)s::text[], %(user_ids)s::integer[], %(data)s::text[],
        %(job_ids)s::bigint[]
    ) as given (block_number, block_hash, log_index, filter, place, transaction_hash, user_id, data, job_id)
),
saved as (
    insert into "workerChainEffects" (
        chain, "blockNumber", "blockHash", "logIndex", filter, place, "transactionHash", "notificationId", "jobId"
    )
    select %(chain)s, block_number, block_hash, log_index, filter, place, transaction_hash, notification_id, job_id
    from given
),
created as (
    insert into notifications (id, user_id, data)
    select notification_id, user_id, data::json from given where notification_id is not null
)
select workerjobs.announce_notifications('created', array_agg(notification_id order by notification_id))
from given
where notification_id is not null
