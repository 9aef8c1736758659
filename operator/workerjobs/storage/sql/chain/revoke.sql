-- Undo what logs above a block led to: notifications are marked, jobs that did not start are cancelled by the caller.
with revoked as (
    update "workerChainEffects"
    set "revokedAt" = now()
    where chain = %(chain)s and "blockNumber" > %(number)s and "revokedAt" is null
    returning "notificationId" as notification_id, "jobId" as job_id
),
marked as (
    -- The text and not the value is changed: clients see their keys in the order they know.
    update notifications
    set data = case
            when data::text ~ '^\s*\{\s*\}\s*$' then '{"revoked":true}'
            else regexp_replace(data::text, '\s*\}\s*$', ',"revoked":true}')
        end::json,
        updated_at = now()
    from revoked
    where notifications.id = revoked.notification_id
    returning notifications.id
),
announced as (
    select workerjobs.announce_notifications('revoked', array_agg(id order by id)) from marked
)
select coalesce(array_agg(job_id) filter (where job_id is not null), '{}') as job_ids, count(*) as revoked,
    (select count(*) from announced) as announced
from revoked
