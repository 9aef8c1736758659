-- Serialise transactions that work on the same names.
select workerjobs.lock_names(%(kind)s, %(names)s)
