"""What a page says of what was just done, and how that is undone.

It stands in the URL to which the browser was sent afterwards, as one of a few words with ids, so that nothing has to be
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.datastructures import QueryParams

from workerjobs.domain.limits import PauseKind

NAMES = frozenset(("did", "job", "count", "stopping", "kind", "name"))
"""What a URL holds of it; it says nothing of the page."""


class Did(StrEnum):
    """What was done."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    STOP = "stop"
    AGAIN = "again"
    CANCEL_SOME = "cancel-some"
    AGAIN_SOME = "again-some"
    PAUSE = "pause"
    RESUME = "resume"
    TRIGGER = "trigger"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence, and perhaps a way back."""

    text: str
    undo: str | None = None
    """Where a form goes that undoes it."""
    label: str = "Undo"
    fields: Mapping[str, str] = field(default_factory=dict)
    """Of that form."""


def notice_of(query: QueryParams) -> Notice | None:
    """Read what a page is to say."""
    try:
        did = Did(query.get("did", ""))
        return _WORDS[did](query)
    except (ValueError, KeyError):
        return None


def _number(query: QueryParams, name: str) -> int:
    return int(query[name])


def _paused(query: QueryParams) -> Notice:
    kind, name = _subject(query)
    text = f"No more jobs of the {kind} {name} are started; running ones go on."
    if kind is PauseKind.CRON:
        text = f"The cron job {name} starts no more runs; one that runs goes on."
    return Notice(
        text,
        "/resume",
        fields={"kind": kind, "name": name},
    )


def _resumed(query: QueryParams) -> Notice:
    kind, name = _subject(query)
    text = f"Jobs of the {kind} {name} are started again."
    if kind is PauseKind.CRON:
        text = f"The cron job {name} goes on with its next tick."
    return Notice(text, "/pause", fields={"kind": kind, "name": name})


def _subject(query: QueryParams) -> tuple[PauseKind, str]:
    return PauseKind(query["kind"]), query["name"]


_WORDS: Mapping[Did, Callable[[QueryParams], Notice]] = {
    Did.SUBMIT: lambda query: Notice("The job is stored, and starts as soon as it is due.", _of(query, "cancel")),
    Did.CANCEL: lambda query: Notice("The job is cancelled.", _of(query, "rerun"), "Run it after all"),
    Did.STOP: lambda _: Notice("The job is asked to stop; its worker ends it within seconds."),
    Did.AGAIN: lambda query: Notice("This job runs the earlier one again.", _of(query, "cancel")),
    Did.CANCEL_SOME: lambda query: Notice(
        f"{_number(query, 'count'):,} cancelled, {_number(query, 'stopping'):,} asked to stop. "
        "Finished ones stay as they are."
    ),
    Did.AGAIN_SOME: lambda query: Notice(
        f"{_number(query, 'count'):,} jobs run again, each as a new one."
        if _number(query, "count") != 1
        else "One job runs again, as a new one."
    ),
    Did.PAUSE: _paused,
    Did.RESUME: _resumed,
    Did.TRIGGER: lambda query: Notice("The cron job runs now, beside its ticks.", _of(query, "cancel"), "Cancel"),
    Did.CHANGE: lambda _: Notice("The job is changed."),
    Did.DELETE: lambda query: Notice(f"Job {_number(query, 'job')} is deleted."),
}


def _of(query: QueryParams, action: str) -> str:
    return f"/jobs/{_number(query, 'job')}/{action}"
