drop function workerjobs.as_jsonb(text)
