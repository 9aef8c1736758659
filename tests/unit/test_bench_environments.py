"""The cache of the benchmark's peers: whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import environments


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKERJOBS_CACHE", str(tmp_path))
    return tmp_path / "bench"


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    file = tmp_path / "pins.txt"
    file.write_text("peer==1.0\n")
    return file


def test_finished_environment_is_made_once(home: Path, pins: Path) -> None:
    made: list[Path] = []

    def make(into: Path) -> None:
        made.append(into)
        (into / "program").write_text("whole")

    first = environments._cached("peer", [pins], "", make)
    assert environments._cached("peer", [pins], "", make) == first
    assert len(made) == 1
    assert (first / "program").read_text() == "whole"


def test_changed_pin_and_changed_interpreter_make_another_one(home: Path, pins: Path) -> None:
    folders = [environments._cached("peer", [pins], "3.11", Path.touch)]
    folders.append(environments._cached("peer", [pins], "3.12", Path.touch))
    pins.write_text("peer==1.1\n")
    folders.append(environments._cached("peer", [pins], "3.12", Path.touch))
    assert len(set(folders)) == 3


def test_half_made_environment_is_never_used(home: Path, pins: Path) -> None:
    def break_off(into: Path) -> None:
        (into / "program").write_text("hal")
        raise environments.LeftOutError("it can't be installed: no network")

    with pytest.raises(environments.LeftOutError, match="no network"):
        environments._cached("peer", [pins], "", break_off)
    assert not [each for each in home.iterdir() if each.is_dir()]
    whole = environments._cached("peer", [pins], "", lambda into: (into / "program").touch())
    assert (whole / "program").exists()


def test_what_a_killed_process_left_is_removed(home: Path, pins: Path) -> None:
    leftover = home / "partial-peer-abc" / "it"
    leftover.mkdir(parents=True)
    environments._cached("peer", [pins], "", lambda into: None)
    assert not leftover.exists()


def test_failed_installation_says_what_the_installer_said() -> None:
    with pytest.raises(environments.LeftOutError, match="it can't be installed: no such package"):
        environments._run(["sh", "-c", "echo something; echo no such package >&2; exit 1"])


def test_peer_whose_python_is_missing_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(environments.LeftOutError, match=r"it needs Python 3\.99 or newer"):
        environments._interpreter((3, 99))


def test_every_pin_is_exact() -> None:
    for file in (environments.PEERS / "python").glob("*.txt"):
        assert all("==" in line for line in file.read_text().splitlines()), file.name
