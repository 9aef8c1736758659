"""What the dashboard makes of figures: charts, lines and sentences."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.datastructures import Headers, QueryParams
from starlette.types import Message, Receive, Scope, Send

from workerjobs.domain.limits import PauseKind
from workerjobs.ports.api import CronLine, QueueCount, RecentRuns, Throughput, ThroughputSlot
from workerjobs.ports.jobs import Pause
from workerjobs.web.api.pools import pools
from workerjobs.web.dashboard.charts import HEIGHT, WIDTH, ends_chart, latency_chart
from workerjobs.web.dashboard.cron import MOST_TICKS, lane
from workerjobs.web.dashboard.notices import notice_of
from workerjobs.web.dashboard.overview import type_lines
from workerjobs.web.dashboard.pools import outlook
from workerjobs.web.dashboard.refusals import PageRefusals
from workerjobs.web.dashboard.rendering import Pages
from workerjobs.web.sessions import COOKIE, Sessions, is_same_origin

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECRET = "secret-of-the-tests-0123456789abcdef"


def shown(*slots: ThroughputSlot, known_since: datetime | None = None) -> Throughput:
    return Throughput(NOON, MINUTE, 4, known_since, slots)


def test_bars_are_as_high_as_their_share_of_the_highest_slot_and_a_single_failure_is_seen() -> None:
    chart = ends_chart(
        shown(
            ThroughputSlot(NOON, 50, 0, 0, 0.1, 1),
            ThroughputSlot(NOON + 2 * MINUTE, 98, 1, 1, 0.1, 1),
            known_since=NOON + MINUTE,
        )
    )
    first, empty, third, _ = chart.columns
    assert [(bar.kind, bar.y, bar.height) for bar in first.bars] == [("succeeded", HEIGHT / 2, HEIGHT / 2)]
    assert empty.bars == []
    assert [bar.kind for bar in third.bars] == ["succeeded", "failed", "cancelled"]
    assert third.bars[1].height == 2
    assert third.words == "2026-01-01 12:02:00 UTC + 1 min: 98 succeeded, 1 failed"
    assert chart.top == "100 in 1 min (1.67/s)"
    assert chart.unknown_width == WIDTH / 4


def test_latency_is_drawn_through_what_is_known_alone() -> None:
    lines = latency_chart(
        shown(
            ThroughputSlot(NOON, 1, 0, 0, 2.0, 4.0),
            ThroughputSlot(NOON + MINUTE, 1, 0, 0, 1.0, 4.0),
            ThroughputSlot(NOON + 3 * MINUTE, 0, 0, 1, None, None),
        )
    )
    assert lines.top == "4 s"
    assert lines.paths == {"wait": "M0.00 60.0L75.00 60.0L225.00 90.0", "run": "M0.00 0.0L75.00 0.0L225.00 0.0"}
    assert latency_chart(shown()).paths == {"wait": "", "run": ""}


def recent(job_type: str, mean_seconds: float) -> RecentRuns:
    return RecentRuns(job_type, 10, 1, mean_seconds, mean_seconds, NOON)


def test_types_come_by_what_waits_and_runs_of_them_in_all_pools() -> None:
    lines = type_lines(
        [
            QueueCount("a", "report", 1, 2, 0, 5.0),
            QueueCount("b", "report", 3, 0, 1, 9.0),
            QueueCount("a", "mail", 0, 1, 2, None),
        ],
        [recent("mail", 1), recent("old", 1)],
    )
    assert [(line.type, line.waiting, line.later, line.running, line.oldest_seconds) for line in lines] == [
        ("report", 4, 2, 1, 9.0),
        ("mail", 0, 1, 2, None),
        ("old", 0, 0, 0, None),
    ]
    assert [line.recent is not None for line in lines] == [False, True, True]


@pytest.mark.parametrize(
    ("waiting", "children", "pause", "words"),
    [
        (0, 0, None, "No worker, and nothing waits."),
        (7, 0, None, "No worker: 7 waiting."),
        (0, 4, None, "4 of 4 places are free."),
        (20, 4, None, "20 waiting for 4 places: about 10 s of work, as runs took of late."),
        (20, 4, Pause(PauseKind.POOL, "a", None, NOON), "Paused: what waits goes on waiting."),
    ],
)
def test_pool_says_how_long_it_has_to_do(waiting: int, children: int, pause: Pause | None, words: str) -> None:
    queues = [QueueCount("a", "report", waiting, 0, 0, 1.0)]
    (pool,) = pools([], queues, [] if pause is None else [pause])
    assert outlook(pool.model_copy(update={"children": children}), queues, {"report": recent("report", 2)}) == words


def cron_line(schedule: str, due: datetime) -> CronLine:
    return CronLine(
        id=1,
        state="pending",
        type="report",
        user_id=0,
        tag=None,
        pool="default",
        priority=0,
        attempt=1,
        due=due,
        started=None,
        finished=None,
        cancel_requested=False,
        progress=None,
        error=None,
        cron_schedule=schedule,
        cron_key="line",
        rescheduled_from_job=None,
        namespace=None,
        resource_name=None,
        created_at=NOON,
        updated_at=NOON,
        time_zone=None,
        catch_up=None,
        concurrency_policy=None,
        tick=due,
        is_suspended=False,
        last_states=[],
    )


def test_calendar_has_each_tick_in_its_place_and_a_band_where_there_are_too_many() -> None:
    hourly = lane(cron_line("0 * * * *", NOON + timedelta(hours=1)), NOON, timedelta(hours=4))
    assert [x for x, _ in hourly.ticks] == [150, 300, 450]
    assert hourly.band is None
    often = lane(cron_line("* * * * * *", NOON + timedelta(minutes=1)), NOON, timedelta(hours=1))
    assert (often.ticks, often.band) == ([], (10, 590))
    assert len(lane(cron_line("* * * * *", NOON + MINUTE), NOON, MINUTE * (MOST_TICKS - 1)).ticks) == MOST_TICKS - 2


@pytest.mark.parametrize(
    "query",
    ["", "did=odd", "did=cancel", "did=cancel&job=x", "did=pause&kind=user&name=a", "did=pause&kind=pool", "did=again"],
)
def test_notice_says_nothing_of_what_it_does_not_know(query: str) -> None:
    assert notice_of(QueryParams(query)) is None


def test_notice_leads_back() -> None:
    cancelled = notice_of(QueryParams("did=cancel&job=7"))
    paused = notice_of(QueryParams("did=pause&kind=pool&name=a"))
    assert cancelled is not None
    assert paused is not None
    assert (cancelled.undo, cancelled.label) == ("/jobs/7/rerun", "Run it after all")
    assert (paused.undo, paused.fields) == ("/resume", {"kind": "pool", "name": "a"})


def test_session_is_read_with_its_secret_until_it_is_over() -> None:
    sessions = Sessions(SECRET, timedelta(hours=1))
    now = datetime.now(UTC)

    def cookie(value: str) -> Headers:
        return Headers({"cookie": f"a=b; {COOKIE}={value}; c=d"})

    made = sessions.make("hash", now=now)
    assert sessions.token_hash(cookie(made)) == "hash"
    assert sessions.token_hash(Headers()) is None
    assert sessions.token_hash(cookie(made[:-2])) is None
    assert sessions.token_hash(cookie(sessions.make("hash", now=now - timedelta(hours=2)))) is None
    assert Sessions(SECRET[::-1], timedelta(hours=1)).token_hash(cookie(made)) is None


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://jobs.example", "host": "jobs.example"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "https://jobs.example", "host": "jobs.example"}, True),
        ({"origin": "https://app.example", "host": "jobs.example"}, False),
        ({"origin": "null", "host": "jobs.example"}, False),
        ({"host": "jobs.example"}, False),
    ],
)
def test_only_pages_of_the_server_itself_are_its_own(headers: dict[str, str], is_own: bool) -> None:
    assert is_same_origin(Headers(headers)) is is_own


def test_what_nobody_expected_is_a_page_for_browsers_and_goes_on_to_the_log() -> None:
    sent: list[Any] = []

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a secret")

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/jobs",
        "query_string": b"",
        "headers": [(b"accept", b"text/html")],
    }
    with pytest.raises(RuntimeError):
        asyncio.run(PageRefusals(fail, Pages(""))(scope, receive, send))
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"content-type"]) == (500, b"text/html; charset=utf-8")
    assert b"Something went wrong here" in sent[1]["body"]
    assert b"a secret" not in sent[1]["body"]
