"""Where a browser shows a token, and where its session ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from workerjobs.domain.tokens import hash_token
from workerjobs.settings.servers import SignedInHeaders
from workerjobs.web.api.problems import ProblemError
from workerjobs.web.api.proxies import NotAcceptedError, signed_in
from workerjobs.web.api.tokens import Tokens, TooManyWrongTokensError
from workerjobs.web.dashboard.rendering import pages_of
from workerjobs.web.sessions import COOKIE, Sessions

router = APIRouter()


@router.get("/login")
async def ask(request: Request, next: str = "/") -> Response:  # noqa: A002  # the name that people know
    """Ask for a token, but whom a proxy has signed in: they go on at once."""
    names: SignedInHeaders | None = request.app.state.signed_in
    is_from_proxy = getattr(request.state, "proxy", False) is True
    try:
        person = None if names is None else signed_in(request.headers, names, is_from_proxy=is_from_proxy)
    except NotAcceptedError as error:
        raise ProblemError(403, str(error)) from None
    if person is not None:
        return pages_of(request).go(_page(next))
    return pages_of(request).show(request, "login.html", next=_page(next), problem=None)


@router.post("/login")
async def begin(
    request: Request,
    token: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=4000)] = "/",  # noqa: A002
) -> Response:
    """Begin a session of whoever shows a token that is valid."""
    pages = pages_of(request)
    tokens: Tokens = request.app.state.tokens
    sessions: Sessions = request.app.state.sessions
    token, address = token.strip(), request.client.host if request.client is not None else "unknown"
    try:
        is_valid = await tokens.caller(token or None, address) is not None
        told = "That token is not valid: it is mistyped, over, or revoked."
    except TooManyWrongTokensError:
        is_valid, told = False, "There were too many wrong tokens from your address: wait a little."
    if not is_valid:
        return pages.show(request, "login.html", 401, next=_page(next), problem=told)
    answer = pages.go(_page(next))
    answer.set_cookie(
        COOKIE,
        sessions.make(hash_token(token), now=datetime.now(UTC)),
        max_age=int(sessions.lasts.total_seconds()),
        path=pages.link("/"),
        secure=request.url.scheme == "https",
        httponly=True,
        # Links in messages lead here with the session; what changes anything is refused if it does not come from here.
        samesite="lax",
    )
    return answer


@router.post("/logout")
async def end(request: Request) -> Response:
    """Have the browser forget its session."""
    pages = pages_of(request)
    answer = pages.go("/login")
    answer.delete_cookie(COOKIE, path=pages.link("/"), httponly=True, samesite="lax")
    return answer


def _page(path: str) -> str:
    """A path of this server; never another server's, whatever a link says."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"
