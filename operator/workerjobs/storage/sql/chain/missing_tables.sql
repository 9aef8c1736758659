select name
from unnest(array['notifications', 'settings', 'user_auth', 'users']) as name
where to_regclass(name) is null
