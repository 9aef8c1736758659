"""Cron schedules: named cases, and any schedule against a calendar that is walked minute by minute."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.calendar_model import Model, moment
from workerjobs.domain.schedule import MACROS, MAX_LENGTH, CronSchedule
from workerjobs.errors import InvalidScheduleError


def ticks(text: str, start: str, count: int, zone: str | None = None) -> list[str]:
    """The next ticks after a moment in UTC, in UTC, as far as needed to tell them apart."""
    schedule = CronSchedule.parse(text, zone)
    found = [moment(start)]
    for _ in range(count):
        found.append(schedule.next_after(found[-1]))
    return [f"{tick:%Y-%m-%d %H:%M:%S}".removesuffix(":00") for tick in found[1:]]


# 2026-01-01 is a Thursday.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", ["2026-01-01 00:01", "2026-01-01 00:02"]),
        ("*/3 * * * * *", ["2026-01-01 00:00:03", "2026-01-01 00:00:06"]),
        ("0 0 * * * *", ["2026-01-01 01:00", "2026-01-01 02:00"]),
        ("30 0 12 * * *", ["2026-01-01 12:00:30"]),
        ("  15\t9 * *   *\n", ["2026-01-01 09:15"]),
        ("13-13 * * * *", ["2026-01-01 00:13", "2026-01-01 01:13"]),
        ("59/15 * * * *", ["2026-01-01 00:59", "2026-01-01 01:59"]),
        ("50/5 1 * * *", ["2026-01-01 01:50", "2026-01-01 01:55", "2026-01-02 01:50"]),
        ("10-30/15,5,5 0 * * *", ["2026-01-01 00:05", "2026-01-01 00:10", "2026-01-01 00:25", "2026-01-02 00:05"]),
        ("0 */24 * * *", ["2026-01-02 00:00"]),
        ("0 0 1 FEB,mar *", ["2026-02-01 00:00", "2026-03-01 00:00", "2027-02-01 00:00"]),
        ("0 0 * * sat-sun", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-10 00:00"]),
        ("0 0 * * 7", ["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("0 0 * * 7-1", ["2026-01-04 00:00", "2026-01-05 00:00", "2026-01-11 00:00"]),
        ("0 0 * * 5-7/2", ["2026-01-02 00:00", "2026-01-04 00:00", "2026-01-09 00:00"]),
        ("0 0 * * SUN-SUN", ["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("0 0 * * 0-SUN", ["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("0 0 * * MON-SUN/3", ["2026-01-04 00:00", "2026-01-05 00:00", "2026-01-08 00:00"]),
        ("0 0 * * 0-7", ["2026-01-02 00:00", "2026-01-03 00:00", "2026-01-04 00:00"]),
        ("0 0 ? * MON", ["2026-01-05 00:00"]),
        ("0 0 31 * *", ["2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0 0 29 2 */7", ["2032-02-29 00:00", "2060-02-29 00:00", "2088-02-29 00:00", "2128-02-29 00:00"]),
        ("0 0 L * *", ["2026-01-31 00:00", "2026-02-28 00:00", "2026-03-31 00:00"]),
        ("0 0 1-29,L,31 * *", [f"2026-01-{day:02} 00:00" for day in (*range(2, 30), 31)]),
        ("0 0 * * FRI#2", ["2026-01-09 00:00", "2026-02-13 00:00"]),
        ("0 0 * * 5L,mon#5", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-27 00:00", "2026-03-30 00:00"]),
    ],
)
def test_ticks_of_a_schedule(text: str, expected: list[str]) -> None:
    assert ticks(text, "2026-01-01 00:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0 0 15 * MON", ["01-05", "01-12", "01-15", "01-19"], id="either of two restricted day fields"),
        pytest.param("0 0 1-31 * MON", ["01-02", "01-03", "01-04"], id="a full list is restricted"),
        pytest.param("0 0 2 * 0-6", ["01-02", "01-03", "01-04"], id="a full list of weekdays is restricted"),
        pytest.param("0 0 */2 * MON", ["01-05", "01-19", "02-09"], id="both where one begins with a star"),
        pytest.param(
            "0 0 1-7 * */7", ["01-04", "02-01", "03-01", "04-05"], id="both where the other begins with a star"
        ),
        pytest.param("0 0 L * MON", ["01-05", "01-12", "01-19", "01-26", "01-31"], id="either with L"),
        pytest.param("0 0 31 2 MON", ["02-02", "02-09"], id="either where one never comes"),
    ],
)
def test_day_fields_combine_as_in_vixie_cron(text: str, expected: list[str]) -> None:
    assert ticks(text, "2026-01-01 00:00", len(expected)) == [f"2026-{day} 00:00" for day in expected]


@pytest.mark.parametrize(("name", "text"), MACROS.items())
def test_names_stand_for_schedules(name: str, text: str) -> None:
    assert ticks(name.upper(), "2026-01-31 23:59:59", 5) == ticks(text, "2026-01-31 23:59:59", 5)


@pytest.mark.parametrize(
    ("text", "zone", "start", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28 00:00",
            ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"],
            id="a skipped time of day ticks when the clock jumps",
        ),
        pytest.param(
            "*/5 2 * * *",
            "Europe/Berlin",
            "2026-03-28 01:55",
            ["2026-03-29 01:00", "2026-03-30 00:00"],
            id="many skipped times become one tick",
        ),
        pytest.param(
            "30 2,3 * * *",
            "America/New_York",
            "2026-03-08 00:00",
            ["2026-03-08 07:00", "2026-03-08 07:30", "2026-03-09 06:30"],
            id="a skipped time and the one after it",
        ),
        pytest.param(
            "0 2,3 * * *",
            "Europe/Berlin",
            "2026-03-29 00:00",
            ["2026-03-29 01:00", "2026-03-30 00:00"],
            id="a skipped time and the one at the jump are one tick",
        ),
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24 12:00",
            ["2026-10-25 00:30", "2026-10-26 01:30"],
            id="a repeated time of day ticks the first time",
        ),
        pytest.param(
            "0 */2 * * *",
            "Europe/Berlin",
            "2026-10-24 22:00",
            ["2026-10-25 00:00", "2026-10-25 03:00"],
            id="every other hour names times of day",
        ),
        pytest.param(
            "0 2,3 * * *",
            "Europe/Berlin",
            "2026-10-25 01:30",
            ["2026-10-25 02:00"],
            id="the time after a repeated one, asked in the second pass",
        ),
        pytest.param(
            "45 2,3 * * *",
            "Europe/Berlin",
            "2026-10-25 01:30",
            ["2026-10-25 02:45"],
            id="a repeated time still to come in the second pass",
        ),
        pytest.param(
            "30 * * * *",
            "Europe/Berlin",
            "2026-03-29 00:00",
            ["2026-03-29 00:30", "2026-03-29 01:30", "2026-03-29 02:30"],
            id="every hour in spring",
        ),
        pytest.param(
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-25 00:00",
            ["2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"],
            id="every hour in autumn",
        ),
        pytest.param(
            "*/30 0-23 * * *",
            "Europe/Berlin",
            "2026-10-25 00:00",
            ["2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30", "2026-10-25 02:00"],
            id="every hour, spelled as a range",
        ),
        pytest.param(
            "*/20 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03 15:10",
            ["2026-10-03 15:40", "2026-10-03 16:00"],  # 02:40, 03:00; 02:00 and 02:20 are skipped
            id="a jump of half an hour",
        ),
        pytest.param(
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04 14:00",
            ["2026-04-04 14:45", "2026-04-05 15:15"],
            id="half an hour repeated",
        ),
        pytest.param(
            "15 0 * * *", "America/Santiago", "2026-09-06 00:00", ["2026-09-06 04:00"], id="a jump at midnight"
        ),
        pytest.param("0 9 30 * *", "Pacific/Apia", "2011-12-01 00:00", ["2011-12-30 10:00"], id="a whole day skipped"),
        pytest.param("0 0 1 1 *", "Asia/Kathmandu", "2026-01-01 00:00", ["2026-12-31 18:15"], id="an odd offset"),
    ],
)
def test_clock_changes(text: str, zone: str, start: str, expected: list[str]) -> None:
    assert ticks(text, start, len(expected), zone) == expected


def test_every_ten_minutes_is_real_time_across_clock_changes() -> None:
    schedule = CronSchedule.parse("*/10 * * * *", "America/New_York")
    for start in ("2026-03-08 05:00", "2026-11-01 04:00"):
        tick = moment(start)
        for _ in range(24):
            assert schedule.next_after(tick) - tick == timedelta(minutes=10)
            tick = schedule.next_after(tick)


def test_next_after_is_strict_and_takes_any_zone_and_fraction() -> None:
    schedule = CronSchedule.parse("0 12 * * *")
    noon = moment("2026-05-05 12:00")
    assert schedule.next_after(noon - timedelta(microseconds=1)) == noon
    assert (
        schedule.next_after(noon) == schedule.next_after(noon + timedelta(microseconds=1)) == noon + timedelta(days=1)
    )
    assert schedule.next_after(noon.astimezone(ZoneInfo("Asia/Tokyo"))).tzinfo is UTC


def test_next_after_is_exact_in_far_years() -> None:
    # In year 9000 the neighbours of a whole second, as float seconds, are 30 microseconds away.
    before = moment("9000-01-01 23:59:59.999999")
    assert CronSchedule.parse("0 0 0 * * *").next_after(before) == moment("9000-01-02 00:00")


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        (datetime(2026, 1, 1), "2026-01-01T00:00:00 has none"),  # noqa: DTZ001
        (datetime.min.replace(tzinfo=UTC), "not in 1"),
        (datetime.max.replace(tzinfo=UTC), "not in 9999"),
    ],
)
def test_next_after_refuses_moments_it_can_not_place(when: datetime, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        CronSchedule.parse("@daily", "America/New_York").next_after(when)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("60 * * * *", "minute '60': 60 is out of range, accepted are 0-59"),
        ("0 24 * * *", "hour '24': 24 is out of range, accepted are 0-23"),
        ("0 0 0 * *", "day of month '0': 0 is out of range, accepted are 1-31 and L"),
        ("0 0 1 13 *", "month '13': 13 is out of range, accepted are 1-12 and JAN-DEC"),
        ("0 0 * * 8", "day of week '8': 8 is out of range, accepted are 0-7 and SUN-SAT"),
        ("75 0 0 * * *", "second '75': 75 is out of range, accepted are 0-59"),
        ("0 0 * FOO *", "month 'FOO': 'FOO' is neither a number nor a name, accepted are 1-12 and JAN-DEC"),
        ("JAN * * * *", "minute 'JAN': 'JAN' is neither a number nor a name"),
        ("*/0 * * * *", "minute '*/0': step 0 is out of range, accepted are 1-60"),
        ("*/90 * * * *", "minute '*/90': step 90 is out of range, accepted are 1-60"),
        ("1,,2 * * * *", "minute '1,,2': an item of the list is empty, accepted are *, 0-59, a-b"),
        ("1- * * * *", "minute '1-': '1-' can't be read"),
        ("-5 * * * *", "minute '-5': '-5' can't be read"),
        ("** * * * *", "minute '**': '**' can't be read"),
        ("? * * * *", "minute '?': '?' can't be read"),
        ("*/2/3 * * * *", "can't be read"),
        ("1.5 * * * *", "can't be read"),
        ("\u0663 * * * *", "can't be read"),
        ("0 22-2 * * *", "hour '22-2': the range '22-2' runs backwards, accepted are two ranges such as 22-23,0-2"),
        ("0 0 * * FRI-MON", "the range 'FRI-MON' runs backwards, accepted are two ranges such as 5-6,0-1"),
        ("0 0 15W * *", "day of month '15W': W (the nearest weekday) is not supported"),
        ("0 0 L-3 * *", "can't be read|neither"),
        ("0 0 * * L", "day of week 'L': 'L' is neither a number nor a name"),
        ("0 0 * * 5#6", "day of week '5#6': a month has no weekday number 6, accepted after # are 1-5"),
        ("0 0 * * 1,5#2", "days with # or L can't be in one list with others"),
        ("0 0 1 * 5#2", "has # or L as day of week, accepted with it is only * as day of month"),
        ("0 0 */2 * 5L", "has # or L as day of week, accepted with it is only * as day of month"),
        ("0 0 30 2 *", "never comes: there is no day 30 in FEB"),
        ("0 0 31 4,6 *", "never comes: there is no day 31 in APR or JUN"),
        ("0 0 31 4 */2", "never comes: there is no day 31 in APR"),
        ("H(50-70) * * * *", "minute 'H(50-70)': the range 50-70 of H is not one from 0 to 59"),
        ("H(9-3) * * * *", "the range 9-3 of H is not one from 0 to 59"),
        ("H(0-5)/7 * * * *", "step 7 is larger than the 6 values of H, accepted are 1-6"),
        ("H/0 * * * *", "step 0 is out of range"),
        ("H-5 * * * *", "'H' is neither a number nor a name"),
        ("", "cron schedule '' has 0 fields: accepted are five (minute, hour,"),
        ("5", "has 1 field: accepted are five"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * 2026", "has 7 fields"),
        ("@reboot", "cron schedule '@reboot' is unknown: accepted are @yearly"),
        ("@every 5m", "is unknown: accepted are @yearly"),
        ("CRON_TZ=UTC * * * * *", "begins with a time zone: give the zone apart from the schedule"),
        ("0" * (MAX_LENGTH + 1), "cron schedule is too long: it has 201 characters, accepted are 200"),
    ],
)
def test_a_wrong_schedule_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(InvalidScheduleError) as refused:
        CronSchedule.parse(text)
    assert len(refused.value.problems) == 1
    assert any(part in refused.value.problems[0] for part in problem.split("|"))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidScheduleError) as refused:
        CronSchedule.parse("60 24 * * *", "europe/berlin")
    assert [problem.split(": ")[-1] for problem in refused.value.problems] == [
        "did you mean Europe/Berlin?",
        "60 is out of range, accepted are 0-59",
        "24 is out of range, accepted are 0-23",
    ]


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Europe", "../etc/passwd", "/etc/localtime", "right/UTC", "+02:00", "\0"]
)
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidScheduleError) as refused:
        CronSchedule.parse("@daily", zone)
    assert refused.value.problems == [f"time zone {zone!r} is unknown: accepted are IANA names such as Europe/Berlin"]


def test_h_stays_the_same_across_processes_and_releases() -> None:
    # Other numbers here would move the runs of every job that uses H.
    found = [
        CronSchedule.parse(text, identity="default/nightly-report").next_after(moment("2025-12-31 23:59:59"))
        for text in ("H H H H H *", "0 0 * * H", "H/20 * * * *")
    ]
    assert found == [moment("2026-07-10 00:10:01"), moment("2026-01-04 00:00"), moment("2026-01-01 00:10")]


@pytest.mark.parametrize(
    ("text", "count", "low", "high"),
    [
        ("H * * * *", 1, 0, 59),
        ("H/15 * * * *", 4, 0, 59),
        ("H(10-29) * * * *", 1, 10, 29),
        ("H(0-29)/10 * * * *", 3, 0, 29),
    ],
)
def test_h_spreads_schedules_over_its_range(text: str, count: int, low: int, high: int) -> None:
    seen = set()
    for number in range(400):
        schedule = CronSchedule.parse(text, identity=f"job-{number}")
        tick, minutes = moment("2025-12-31 23:59"), []
        while (tick := schedule.next_after(tick)) < moment("2026-01-01 01:00"):
            minutes.append(tick.minute)
        assert len(minutes) == count
        assert len({later - earlier for earlier, later in pairwise(minutes)}) <= 1
        seen.update(minutes)
    assert seen == set(range(low, high + 1))


def test_h_as_day_comes_every_month() -> None:
    for number in range(50):
        schedule = CronSchedule.parse("0 0 H * *", identity=str(number))
        tick, months = moment("2025-12-31 23:59"), []
        while (tick := schedule.next_after(tick)).year == 2026:
            months.append(tick.month)
        assert months == list(range(1, 13))


def test_schedules_are_values() -> None:
    schedule = CronSchedule.parse(" @daily ", "Europe/Berlin", identity="a")
    assert schedule == CronSchedule.parse("@daily", "Europe/Berlin", identity="a")
    assert schedule != CronSchedule.parse("@daily", "Europe/Paris", identity="a")
    assert len({schedule, CronSchedule.parse("@daily")}) == 2
    assert (schedule.text, schedule.time_zone, CronSchedule.parse("@daily").time_zone) == (
        "@daily",
        "Europe/Berlin",
        "UTC",
    )
    assert pickle.loads(pickle.dumps(schedule)).next_after(moment("2026-01-01 00:00")) == moment("2026-01-01 23:00")


def test_asking_changes_nothing_that_threads_share() -> None:
    schedule = CronSchedule.parse("0 0 1 * MON")
    before = dict(vars(schedule._calendar))
    schedule.next_after(moment("2026-01-01 00:00"))
    assert vars(schedule._calendar) == before


# Any schedule, compared with the model.

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, names: list[str], star: float = 0.5) -> tuple[str, frozenset[int]]:
    """A field's text and its values; `high` is 7 for weekdays."""
    if draw(st.floats(0, 1)) < star:
        return "*", frozenset(range(low, high + 1))
    top = 6 if high == 7 else high

    def spell(number: int) -> str:
        if number == 7 and high == 7:
            return "7"  # by name it depends on where the range begins; see the named cases
        name = names[number - low] if names else str(number)
        return draw(st.sampled_from([str(number), name, name.lower()]))

    texts, values = [], set()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["number", "range", "stepped range", "stepped star", "open", "full"]))
        first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
        step = draw(st.integers(1, top - low + 1))
        if kind == "number":
            texts.append(spell(first))
            values |= {first}
        elif kind == "range":
            texts.append(f"{spell(first)}-{spell(last)}")
            values |= set(range(first, last + 1))
        elif kind == "stepped range":
            texts.append(f"{spell(first)}-{spell(last)}/{step}")
            values |= {
                number for number in range(low, high + 1) if first <= number <= last and (number - first) % step == 0
            }
        elif kind == "stepped star":
            texts.append(f"*/{step}")
            values |= {number for number in range(low, top + 1) if (number - low) % step == 0}
        elif kind == "open":
            first = min(first, top)
            texts.append(f"{spell(first)}/{step}")
            values |= {number for number in range(first, top + 1) if (number - first) % step == 0}
        else:
            texts.append(f"{low}-{high}")
            values |= set(range(low, high + 1))
    return ",".join(texts), frozenset(values)


@st.composite
def schedules(draw: st.DrawFn, day_star: float = 0.4) -> tuple[str, Model]:
    """A schedule's text and its model."""
    second = draw(st.none() | fields(0, 59, [], 0.2))
    minute = draw(fields(0, 59, [], 0.2))
    hour = draw(fields(0, 23, [], 0.4))
    day_text, days = draw(fields(1, 31, [], day_star))
    month = draw(fields(1, 12, MONTHS, 0.6))
    weekday_text, weekdays = draw(fields(0, 7, WEEKDAYS, day_star))
    has_last_day = draw(st.integers(0, 4)) == 0
    if has_last_day:
        day_text += ",L"
    nth_weekdays = set()
    if day_text == "*" and draw(st.integers(0, 3)) == 0:
        nth_weekdays = draw(
            st.sets(st.tuples(st.integers(0, 6), st.sampled_from([1, 2, 3, 4, 5, -1])), min_size=1, max_size=3)
        )
        weekday_text = ",".join(f"{day}#{nth}" if nth > 0 else f"{day}L" for day, nth in sorted(nth_weekdays))
    model = Model(
        seconds=second and second[1],
        minutes=minute[1],
        hours=hour[1],
        days=days,
        has_last_day=has_last_day,
        months=month[1],
        weekdays=frozenset(number % 7 for number in weekdays),
        nth_weekdays=frozenset(nth_weekdays),
        needs_both_days=day_text.startswith("*") or weekday_text.startswith("*"),
    )
    texts = [*([second[0]] if second else []), minute[0], hour[0], day_text, month[0], weekday_text]
    return " ".join(texts), model


def parse(text: str, zone: str, model: Model) -> CronSchedule | None:
    """The schedule, or None where it is rightly refused: its random text is too long, or the calendar lacks its day."""
    never_comes = model.next_wall_time(START_OF_CYCLE, 40) is None
    if len(text) <= MAX_LENGTH and not never_comes:
        return CronSchedule.parse(text, zone)
    with pytest.raises(InvalidScheduleError, match=r"too long|never comes"):
        CronSchedule.parse(text, zone)
    return None


START_OF_CYCLE = datetime(2000, 1, 1)  # noqa: DTZ001
CHECKED = settings(derandomize=True, deadline=None, database=None)
# CI looks at thousands of schedules (.ci/run).
TIMES = int(os.environ.get("WORKERJOBS_EXAMPLES", "1"))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2110, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.timeout(600)
@settings(CHECKED, max_examples=200 * TIMES)
@given(schedules(day_star=0.3), MOMENTS)
def test_any_schedule_ticks_as_the_calendar_says(case: tuple[str, Model], start: datetime) -> None:
    text, model = case
    schedule = parse(text, "UTC", model)
    if schedule is None:
        return
    tick = start
    for _ in range(4):
        expected = model.next_wall_time(tick.replace(tzinfo=None), 41)
        assert expected is not None
        tick = schedule.next_after(tick)
        assert tick == expected.replace(tzinfo=UTC)


CHANGES = [
    ("Europe/Berlin", "2026-03-29 01:00"),
    ("Europe/Berlin", "2026-10-25 01:00"),
    ("America/New_York", "2026-03-08 07:00"),
    ("America/New_York", "2026-11-01 06:00"),
    ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ("Australia/Lord_Howe", "2026-10-03 15:30"),
    ("America/Santiago", "2026-09-06 04:00"),  # midnight to 1:00
    ("America/Santiago", "2026-04-05 03:00"),  # midnight to 23:00 of the day before
    ("Pacific/Apia", "2011-12-30 10:00"),  # one whole day ahead
]


def near_change(
    case: tuple[str, Model], change: tuple[str, str], part: float
) -> tuple[CronSchedule, datetime, datetime, datetime] | None:
    """A drawn schedule with begin, end and a moment of the hours around a clock change; None where it is refused."""
    text, model = case
    middle = moment(change[1])
    schedule = parse(text, change[0], model)
    if schedule is None:
        return None
    around = timedelta(hours=3) if model.seconds is None else timedelta(minutes=75)
    begin, end = middle - around, middle + around
    return schedule, begin, end, begin + part * (end - begin)


@pytest.mark.timeout(600)
@settings(CHECKED, max_examples=300 * TIMES)
@given(schedules(day_star=0.8), st.sampled_from(CHANGES), st.floats(0, 1))
def test_any_schedule_passes_a_clock_change_as_a_clock_shows(
    case: tuple[str, Model], change: tuple[str, str], part: float
) -> None:
    drawn = near_change(case, change, part)
    if drawn is None:
        return
    schedule, begin, end, start = drawn
    expected = [tick for tick in case[1].ticks(change[0], begin, end) if tick > start][:20]
    found: list[datetime] = []
    tick = start
    while len(found) < 20 and (tick := schedule.next_after(tick)) <= end:
        assert not found or tick > found[-1]
        found.append(tick)
    assert found == expected


@pytest.mark.timeout(600)
@settings(CHECKED, max_examples=100 * TIMES)
@given(schedules(day_star=0.8), st.sampled_from(CHANGES), st.floats(0, 1), st.integers(1, 150))
def test_latest_ticks_of_any_schedule_are_those_that_the_calendar_has(
    case: tuple[str, Model], change: tuple[str, str], part: float, limit: int
) -> None:
    drawn = near_change(case, change, part)
    if drawn is None:
        return
    schedule, begin, end, start = drawn
    expected = [tick for tick in case[1].ticks(change[0], begin, end) if start < tick <= end]
    assert schedule.latest(start, end, limit) == expected[-limit:]
    assert schedule.latest(end, start, limit) == []


def test_latest_ticks_of_ten_years_are_found_without_walking_through_them() -> None:
    schedule = CronSchedule.parse("*/2 * * * * *", "Europe/Berlin")
    asked = 0
    find, end = CronSchedule.next_after, moment("2026-05-01 12:00")

    def counted(schedule: CronSchedule, after: datetime) -> datetime:
        nonlocal asked
        asked += 1
        return find(schedule, after)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CronSchedule, "next_after", counted)
        ticks = schedule.latest(end - timedelta(days=3650), end, 100)
    assert ticks == [end - timedelta(seconds=2 * number) for number in reversed(range(100))]
    assert asked < 500
