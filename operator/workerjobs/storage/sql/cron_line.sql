/* The cron line of a row with a schedule, also where it names none; domain/cron.py: cron_key_of. */
coalesce(j."cronKey", 'tag:' || j.tag || ':' || j."cronSchedule", 'job:' || j.id)
