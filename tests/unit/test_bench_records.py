"""What a benchmark run that was ended leaves to the next one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.bench.records import KEPT_SECONDS, Records, digest_of


def test_ended_run_leaves_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "bench" / "run.jsonl"
    Records(file).put("drain river 0", {"drain_rate": 27_000.5})
    again = Records(file)
    assert again.get("drain river 0") == {"drain_rate": 27_000.5}
    assert again.get("drain river 1") is None
    again.put("drain river 1", [1])
    assert Records(file).get("drain river 1") == [1]
    again.forget()
    assert again.get("drain river 0") is None
    assert not file.exists()


def test_line_that_a_killed_run_left_half_harms_no_other(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    records = Records(file)
    records.put("first", 1)
    records.put("second", 2)
    file.write_text(file.read_text()[:-5])
    records = Records(file)
    assert (records.get("first"), records.get("second")) == (1, None)
    records.put("third", 3)
    assert Records(file).get("third") == 3


def test_what_is_a_day_old_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    lines = [
        {"name": "old", "value": 1, "moment": time.time() - KEPT_SECONDS - 60},
        {"name": "new", "value": 2, "moment": time.time() - 60},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    records = Records(file)
    assert (records.get("old"), records.get("new")) == (None, 2)


def test_runs_that_are_not_worth_it_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    records = Records(None)
    records.put("first", 1)
    assert records.get("first") == 1
    records.forget()
    assert list(tmp_path.iterdir()) == []


def test_digest_is_of_the_sources_and_of_nothing_that_running_them_makes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = digest_of([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.py").write_text("made")
    assert digest_of([tmp_path]) == first
    (tmp_path / "b.sql").write_text("select 1")
    second = digest_of([tmp_path])
    (tmp_path / "a.py").write_text("2")
    assert len({first, second, digest_of([tmp_path])}) == 3
