select workerjobs.unschedule(%(key)s) as cancelled
