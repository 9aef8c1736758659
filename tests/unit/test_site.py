"""The parts of the documentation's site that are made from the code are complete, and links lead where they should.

The site itself is built by `make docs`, where whatever mkdocs warns of is an error.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import workerjobs
from tests.support.site import links, references
from workerjobs import errors
from workerjobs.cli.commands import commands

ROOT = Path(__file__).parents[2]


def test_every_command_is_listed_with_its_options() -> None:
    page = references.commands()
    named = list(references.all_of(typer.main.get_command(commands), "workerjobs"))
    assert len(named) > 30
    for name, command in named:
        assert f"# `{name}`\n" in page
        for parameter in command.params:
            assert all(option in page for option in parameter.opts if option.startswith("-")), name


def test_every_operation_and_every_shape_of_the_api_is_listed() -> None:
    page, api = references.http_api(), references.described()
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            _, _, part = page.partition(f"### `{method.upper()} {path}`\n")
            part = part.partition("\n#")[0]
            assert part, path
            assert all(f"`{each['name']}`" in part for each in operation.get("parameters", [])), path
    for name, shape in api["components"]["schemas"].items():
        assert f"### {name} {{#shape-{name.lower()}}}\n" in page
        assert all(f"| `{field}` |" in page for field in shape.get("properties", {})), name


def test_every_field_of_the_resources_is_listed_with_its_description() -> None:
    page = references.resources()
    for file in references.DEFINITIONS.glob("*.yaml"):
        schema = yaml.safe_load(file.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        for part in ("spec", "status"):
            for name, field in schema[part]["properties"].items():
                assert f"| `{name}` |" in page
                assert " ".join(field.get("description", "").split())[:40].partition("|")[0] in page


def test_every_public_name_of_the_package_is_in_the_python_reference() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    assert "::: workerjobs.errors\n" in page
    named = set(re.findall(r"\w+", page)) | {name for name in workerjobs.__all__ if hasattr(errors, name)}
    assert set(workerjobs.__all__) <= named


@pytest.mark.parametrize("module", [links, references])
def test_examples_in_docstrings_are_true(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


def test_link_out_of_the_documentation_leads_into_the_repository() -> None:
    text = "[a](../manifests/samples) [b](../LICENSE#x) [c](api.md) [d](https://example.org/e)"
    turned = links.outward(text, "docs/page.md", ROOT, "https://repository", is_page=lambda path: path == "docs/api.md")
    assert turned == (
        "[a](https://repository/tree/main/manifests/samples) [b](https://repository/blob/main/LICENSE#x) "
        "[c](api.md) [d](https://example.org/e)"
    )


def test_link_to_nothing_is_refused_with_its_page() -> None:
    with pytest.raises(FileNotFoundError, match=r"docs/page.md links to \.\./nothing\.md"):
        links.outward("[a](../nothing.md)", "docs/page.md", ROOT, "https://repository", is_page=lambda _: False)
