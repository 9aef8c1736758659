"""Pages from templates, with what every page says and may do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from workerjobs.domain.tokens import PERSON, Scope
from workerjobs.web.api.access import NOBODY
from workerjobs.web.dashboard import words
from workerjobs.web.dashboard.notices import notice_of

STATIC = Path(__file__).parent / "static"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
"""Nothing but this server's own files is loaded or run, whatever a job's data says."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NAVIGATION = (
    ("/", "overview", "Overview"),
    ("/jobs", "jobs", "Jobs"),
    ("/cron", "cron", "Cron"),
    ("/pools", "pools", "Pools"),
    ("/types", "types", "Types"),
    ("/chains", "chains", "Chains"),
    ("/audit", "audit", "Audit"),
)


class Pages:
    """Writes pages.

    Args:
        prefix: The path below which the server is reached; empty: none.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._environment = Environment(
            loader=PackageLoader("workerjobs.web.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "between": words.between,
            "clock": words.clock,
            "count": words.count,
            "duration": words.duration,
            "percent": words.percent,
            "pretty": words.pretty,
            "time_of_day": words.time_of_day,
        }
        self._environment.globals |= {
            "link": self.link,
            "static": self._static,
            "navigation": NAVIGATION,
            "version": version("workerjobs"),
        }
        self._digest = _digest()

    def link(self, path: str, **query: Any) -> str:
        """Write a link to a page; values that are None or empty are left out."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return f"{self._prefix}{path}{'?' if given else ''}{urlencode(given)}"

    def show(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Answer with a page."""
        return self.write(template, status, request=request, **values)

    def write(
        self, template: str, status: int, *, request: Request, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Response:
        """Answer with a page."""
        now = datetime.now(UTC)
        caller = getattr(request.state, "caller", None)
        is_person = caller is not None and caller.actor.startswith(PERSON)
        text = self._environment.get_template(template).render(
            request=request,
            caller=caller,
            who=caller and caller.actor.removeprefix(PERSON),
            is_person=is_person,
            may_change=caller is not None and caller.scope == Scope.WRITE,
            is_session=caller is not None and caller is not NOBODY and not is_person,
            now=now,
            when=lambda moment: _when(moment, now),
            notice=notice_of(request.query_params),
            **values,
        )
        return HTMLResponse(text, status, HEADERS | dict(headers or {}))

    def go(self, path: str, **query: Any) -> Response:
        """Send the browser to another page."""
        return RedirectResponse(self.link(path, **query), 303, HEADERS)

    def _static(self, name: str) -> str:
        # With the content's digest, so that browsers may keep it for ever.
        return f"{self._prefix}/static/{name}?v={self._digest}"


def pages_of(request: Request) -> Pages:
    """The server's pages."""
    pages: Pages = request.app.state.pages
    return pages


def _digest() -> str:
    found = hashlib.sha256()
    for file in sorted(STATIC.iterdir()):
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def _when(moment: datetime | None, now: datetime) -> Markup:
    """Write a moment as seen from now; a pointer over it tells when exactly."""
    if moment is None:
        return Markup('<span class="none">–</span>')
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(), words.clock(moment), words.relative(moment, now)
    )
