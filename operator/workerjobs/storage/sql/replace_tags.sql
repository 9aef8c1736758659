select workerjobs.replace_tags(%(tags)s, %(cron_tags)s)
