select workerjobs.broadcast(%(data)s::json) as id
