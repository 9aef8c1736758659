/* The cron line of a row that has a tag and a schedule but no key; domain/lifecycle.py: tag_line. */
'tag:' || j.tag || ':' || j."cronSchedule"
