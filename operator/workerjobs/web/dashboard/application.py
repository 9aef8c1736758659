"""The dashboard as a part of the server's application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from workerjobs.ports.chains import ChainStore
from workerjobs.settings import ServerSettings
from workerjobs.web.api.tokens import Tokens
from workerjobs.web.dashboard import (
    actions,
    audit,
    chains,
    cron,
    job_changes,
    job_logs,
    job_types,
    jobs,
    login,
    overview,
    pools,
)
from workerjobs.web.dashboard.rendering import STATIC, Pages
from workerjobs.web.sessions import Sessions

ROUTERS = tuple(
    part.router
    for part in (login, overview, job_logs, job_changes, actions, jobs, cron, pools, job_types, chains, audit)
)
"""In this order: what can be done to a job has a pattern that fits the paths of its lines and its change, too."""


def add_dashboard(
    app: FastAPI, settings: ServerSettings, chain_store: ChainStore, tokens: Tokens, sessions: Sessions
) -> Pages:
    """Put the dashboard into an application that has the API; returns its pages, for `PageRefusals`."""
    pages = Pages(settings.path_prefix)
    app.state.pages = pages
    app.state.signed_in = settings.signed_in
    app.state.chains = chain_store
    app.state.tokens = tokens
    app.state.sessions = sessions
    for router in ROUTERS:
        app.include_router(router, include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC), "static")
    return pages


class _Static(StaticFiles):
    """Files that a browser may keep for ever: their links change with what is in them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
