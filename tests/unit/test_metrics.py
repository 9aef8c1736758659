"""Metrics: what the code has, the page says, and the dashboard and the alerts ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter

from tests.support import grafana
from tests.support.observed import Family, families_of, roles
from tests.support.promtool import promtool

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
RUNBOOKS = ROOT / "docs" / "observability.md"
ALERTS = ROOT / "charts" / "workerjobs" / "files" / "alerts.yaml"
UNITS = {"seconds": "s", "bytes": "bytes", "blocks": "blocks", "block": "number", "jobs": "jobs", "pods": "pods"}
LABELS = {
    *("chain", "class", "code", "endpoint", "filter", "how", "method", "outcome", "pool", "reason", "resource"),
    *("role", "route", "state", "status", "type", "verb", "version", "what", "workerpool"),
}
"""Labels whose values are few, or bounded by the code: never an id, a path, a tag or a text of a user's."""


def page_of(text: str) -> dict[str, dict[str, tuple[str, tuple[str, ...], str]]]:
    """Type, labels and unit of each metric, by section and name."""
    sections = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)[1:]
    found = {}
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\|(.*?)\| \S.*\|$", body, re.MULTILINE)
        if rows:
            found[title.lower()] = {
                name: (kind, tuple(sorted(re.findall(r"\w+", labels))), unit.strip())
                for name, kind, labels, unit in rows
            }
    return found


def differences(page: str, code: Mapping[str, Mapping[str, Family]]) -> list[str]:
    """What the page and the code do not say alike."""
    listed = page_of(page)
    said = {
        (section, name, kind, labels) for section, each in listed.items() for name, (kind, labels, _) in each.items()
    }
    there = {(section, each.name, each.type, each.labels) for section, found in code.items() for each in found.values()}
    return [f"only the page: {each}" for each in sorted(said - there)] + [
        f"only the code: {each}" for each in sorted(there - said)
    ]


def base(name: str) -> str:
    """The metric that a series of a histogram belongs to."""
    return re.sub(r"_(bucket|count|sum)$", "", name)


def names_in(texts: Iterable[str]) -> set[str]:
    return {base(name) for text in texts for name in re.findall(r"\b(?:workerjobs|process)_\w+", text)}


@pytest.fixture(scope="module")
def code() -> Mapping[str, dict[str, Family]]:
    return roles()


def test_page_and_code_list_the_same_metrics(code: Mapping[str, dict[str, Family]]) -> None:
    assert differences(PAGE.read_text(), code) == []


def test_a_metric_on_one_side_alone_is_found(code: Mapping[str, dict[str, Family]]) -> None:
    page = PAGE.read_text()
    registry = CollectorRegistry()
    Counter("workerjobs_new", "New.", ["type"], registry=registry)
    (found,) = differences(page, {**code, "worker": code["worker"] | families_of(registry)})
    assert found == "only the code: ('worker', 'workerjobs_new_total', 'counter', ('type',))"
    row = "| `workerjobs_old_total` | counter | | | gone |\n| `workerjobs_children`"
    (found,) = differences(page.replace("| `workerjobs_children`", row, 1), code)
    assert found.startswith("only the page: ('worker', 'workerjobs_old_total'")
    changed = page.replace("| `workerjobs_children` | gauge | state |", "| `workerjobs_children` | gauge | pod |")
    assert len(differences(changed, code)) == 2


def test_no_metric_of_the_code_is_left_out_of_the_registries(code: Mapping[str, dict[str, Family]]) -> None:
    known = {name.removesuffix("_total").removesuffix("_info") for each in code.values() for name in each}
    written = {
        name.removesuffix("_total")
        for file in (ROOT / "operator").rglob("*.py")
        for name in re.findall(r'"(workerjobs_[a-z_]+)"', file.read_text())
        if file.parts[-2] in ("worker", "kube", "web", "app")
    }
    # Modules of Python's are named likewise by nobody.
    assert written - known == set()
    assert len(written) > 30


def test_names_follow_the_conventions_of_prometheus(code: Mapping[str, dict[str, Family]]) -> None:
    units = {name: unit for each in page_of(PAGE.read_text()).values() for name, (_, _, unit) in each.items()}
    for family in (each for found in code.values() for each in found.values()):
        assert family.text.endswith("."), family
        if not family.name.startswith("process_"):
            assert family.name.startswith("workerjobs_"), family
        # https://prometheus.io/docs/practices/naming: base units, a counter ends in _total and nothing else does.
        assert (family.type == "counter") is family.name.endswith("_total"), family
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kib|mib|percent)(_|$)", family.name), family
        last = family.name.removesuffix("_total").rpartition("_")[2]
        if last in UNITS:
            assert units[family.name] == UNITS[last], family
        assert set(family.labels) <= LABELS, family
        if family.type == "histogram":
            assert last == "seconds", family


def test_dashboard_and_alerts_ask_for_metrics_that_are_there(code: Mapping[str, dict[str, Family]]) -> None:
    known = {name for each in code.values() for name in each}
    alerts = ALERTS.read_text()
    assert names_in(grafana.expressions()) - known == set()
    assert names_in([alerts]) - known == set()
    shown = names_in([*grafana.expressions(), alerts])
    # The rest tells what a process takes, in ways that people know.
    assert {name for name in known - shown if name.startswith("workerjobs_")} == set()


def test_dashboard_has_a_row_for_each_part_and_its_panels_do_not_overlap() -> None:
    shown = json.loads(grafana.dashboard_text())
    assert [each["title"] for each in shown["panels"] if each["type"] == "row"] == [
        "Queue",
        "Workers",
        "Operator",
        "Chains",
        "Server",
    ]
    taken: set[tuple[int, int]] = set()
    for panel in shown["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= grafana.WIDTH
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])


def test_prometheus_accepts_the_rules_and_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    assert f"SUCCESS: {len(alerts())} rules found" in promtool("check", "rules", str(ALERTS), folder=tmp_path)
    queries = [{"record": f"query:{number}", "expr": each} for number, each in enumerate(grafana.expressions())]
    (tmp_path / "dashboard.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": queries}]}))
    assert f"SUCCESS: {len(queries)} rules found" in promtool("check", "rules", "dashboard.yaml", folder=tmp_path)


def test_alerts_come_when_they_should_and_not_before(tmp_path: Path) -> None:
    tests = (ROOT / "tests" / "support" / "alerts_test.yaml").read_text()
    (tmp_path / "alerts_test.yaml").write_text(tests.replace("RULES", str(ALERTS)))
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml", folder=tmp_path)
    tested = {each["alertname"] for group in yaml.safe_load(tests)["tests"] for each in group["alert_rule_test"]}
    assert tested == {each["alert"] for each in alerts()}


def test_each_alert_has_its_place_on_the_page() -> None:
    headings = re.findall(r"^### (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert [each["alert"] for each in alerts()] == headings
    for each in alerts():
        assert each["annotations"]["runbook"] == f"docs/observability.md#{each['alert'].lower()}"


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
