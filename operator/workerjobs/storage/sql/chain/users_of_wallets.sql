select auth_identifier as wallet, user_id
from user_auth
where auth_type = 'WEB3_WALLET' and auth_identifier = any (%(wallets)s::text[])
