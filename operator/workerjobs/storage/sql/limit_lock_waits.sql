-- In this transaction, from here on: whoever wants a table that a migration waits for waits behind it.
select set_config('lock_timeout', %(milliseconds)s, true)
