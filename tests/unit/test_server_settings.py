"""Settings of the server: what is wrong is said with the variable's name and what is accepted."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from workerjobs.errors import InvalidSettingsError
from workerjobs.settings.servers import SignedInHeaders, server_settings

PROXY = {"WORKERJOBS_TRUSTED_PROXIES": "10.0.0.1"}

BAD = [
    ({"WORKERJOBS_TRUSTED_PROXIES": "nginx"}, "addresses or networks such as 10.1.0.0/16"),
    ({"WORKERJOBS_TRUSTED_PROXIES": "*"}, "addresses or networks such as 10.1.0.0/16"),
    ({"WORKERJOBS_PROXY_USER_HEADER": "X-User"}, "is believed from listed peers alone: set WORKERJOBS_TRUSTED_PROXIES"),
    (PROXY | {"WORKERJOBS_PROXY_USER_HEADER": "X User"}, "give a header's name such as X-Forwarded-User"),
    (PROXY | {"WORKERJOBS_PROXY_USER_HEADER": "Authorization"}, "give a header's name such as X-Forwarded-User"),
    (PROXY | {"WORKERJOBS_PROXY_WRITE_GROUPS": "ops"}, "WORKERJOBS_PROXY_WRITE_GROUPS says nothing by itself"),
]


@pytest.mark.parametrize(("given", "sentence"), BAD)
def test_settings_that_cannot_be_used_are_named(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSettingsError) as refused:
        server_settings(given)
    (problem,) = refused.value.problems
    assert sentence in problem


def test_proxies_and_their_headers_are_read() -> None:
    given = {
        "WORKERJOBS_TRUSTED_PROXIES": "10.1.2.3/16, ::1",
        "WORKERJOBS_PROXY_USER_HEADER": "X-Auth-Request-User",
        "WORKERJOBS_PROXY_GROUPS_HEADER": "X-Auth-Request-Groups",
        "WORKERJOBS_PROXY_WRITE_GROUPS": "ops, admins",
    }
    settings = server_settings(given)
    assert settings.trusted_proxies == (ip_network("10.1.0.0/16"), ip_network("::1"))
    assert settings.signed_in == SignedInHeaders(
        "X-Auth-Request-User", "X-Auth-Request-Groups", frozenset(), frozenset({"ops", "admins"})
    )
    assert server_settings(PROXY).signed_in is None
