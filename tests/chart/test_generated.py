"""What is made from the chart stands in the repository as it is made."""

from __future__ import annotations

import re

from tests.support.helm import CHART
from tests.support.manifests import existing_files, expected_files


def test_generated_files_are_current() -> None:
    """manifests/install, kustomization.yaml, the chart's definitions and README: `make manifests` writes them."""
    expected = expected_files()
    stale = {path for path, text in expected.items() if not path.is_file() or path.read_text(encoding="utf-8") != text}
    assert not stale, "run `make manifests`"
    assert existing_files() <= expected.keys()


def test_every_value_is_described() -> None:
    rows = re.findall(r"^\| ([\w.]+) \| \w+ \| .* \| (.*) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert len(rows) > 80
    # Of an image there is nothing to say that its name does not.
    assert [
        name
        for name, description in rows
        if not description.strip() and not name.endswith(("image.tag", "image.repository"))
    ] == []
