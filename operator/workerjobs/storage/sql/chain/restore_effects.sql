-- What a reorganisation undid and another one brought back holds again.
with restored as (
    update "workerChainEffects" as effect
    set "revokedAt" = null, "jobId" = given.job_id
    from unnest(
        %(block_numbers)s::bigint[], %(block_hashes)s::text[], %(log_indexes)s::integer[], %(filters)s::text[],
        %(places)s::smallint[], %(data)s::text[], %(job_ids)s::bigint[]
    ) as given (block_number, block_hash, log_index, filter, place, data, job_id)
    where effect.chain = %(chain)s and effect."blockNumber" = given.block_number
        and effect."blockHash" = given.block_hash and effect."logIndex" = given.log_index
        and effect.filter = given.filter and effect.place = given.place
    returning effect."notificationId" as notification_id, given.data
),
marked as (
    update notifications
    set data = restored.data::json, updated_at = now()
    from restored
    where notifications.id = restored.notification_id
)
select workerjobs.announce_notifications('restored', array_agg(notification_id order by notification_id))
from restored
where notification_id is not null
