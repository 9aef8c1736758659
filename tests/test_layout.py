"""How the source tree is laid out."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "operator" / "workerjobs"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_source_root_is_no_package() -> None:
    assert not list((ROOT / "operator").glob("*.py"))
    assert [each.name for each in (ROOT / "operator").iterdir() if each.is_dir()] == ["workerjobs"]


def test_standard_librarys_operator_module_is_found_from_the_project_folder() -> None:
    program = "import operator, workerjobs; print(operator.__file__)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not Path(ended.stdout.strip()).is_relative_to(ROOT / "operator")


def test_no_test_folder_hides_the_operator_module() -> None:
    assert not [name_of(each) for each in (ROOT / "tests").rglob("operator*") if each.is_dir()]
    assert not list((ROOT / "tests").rglob("operator.py"))


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))


def test_every_folder_of_modules_is_a_package() -> None:
    assert not [name_of(file.parent) for file in MODULES if not (file.parent / "__init__.py").exists()]


def test_no_module_has_the_name_of_a_standard_librarys_module() -> None:
    # Started as a script, such a module would hide the library's.
    names = {file.stem for file in MODULES} | {file.parent.name for file in MODULES}
    assert not names & sys.stdlib_module_names - {"__init__", "__main__"}


def test_quoted_column_names_appear_in_sql_files_only() -> None:
    assert not [name_of(file) for file in MODULES if '"fencingToken"' in file.read_text() or 'j."' in file.read_text()]
