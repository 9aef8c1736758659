select workerjobs.replace_tags(%(tags)s)
