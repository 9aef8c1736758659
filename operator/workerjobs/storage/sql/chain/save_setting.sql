insert into settings (key, value)
values (%(key)s, %(value)s)
on conflict (key) do update set value = excluded.value, updated_at = now()
