"""Watched chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from workerjobs.ports.chains import ChainStore
from workerjobs.web.dashboard.rendering import pages_of

router = APIRouter()

LETTERS = 10


@router.get("/chains")
async def show_chains(request: Request) -> Response:
    """Show how far chains are processed, and what stands in the way."""
    store: ChainStore = request.app.state.chains
    found, endpoints = await store.chains(), await store.endpoints()
    letters: dict[str, list[Mapping[str, Any]]] = {
        each["chain"]: await store.dead_letters(each["chain"], LETTERS) for each in found if each["undecodable"]
    }
    return pages_of(request).show(
        request,
        "chains.html",
        area="chains",
        chains=found,
        endpoints={
            each["chain"]: [endpoint for endpoint in endpoints if endpoint["chain"] == each["chain"]] for each in found
        },
        letters=letters,
    )
