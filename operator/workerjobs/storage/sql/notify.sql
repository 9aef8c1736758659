select workerjobs.notify(%(user_id)s, %(data)s::json) as id
