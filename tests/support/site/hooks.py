"""What mkdocs is told of this project: the home page, the generated parts, links that lead out of docs/.

A page says where a generated part goes by ``<!-- generated: NAME -->``, up to ``<!-- end -->``, so that what is made
from the code stands in no file that could be out of date; what is between is for readers of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from tests.support.site import links, references

ROOT = Path(__file__).parents[3]
GENERATED: dict[str, Callable[[], str]] = {
    "commands": references.commands,
    "http-api": references.http_api,
    "resources": references.resources,
}
COPIED = {"reference/chart.md": "charts/workerjobs/README.md", "reference/changelog.md": "CHANGELOG.md"}
"""Pages that are files from elsewhere in the repository."""
HOME = "README.md"
_PART = re.compile(r"^<!-- generated: ([\w-]+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
# A script, style sheet, image or font that a browser would get from somewhere else.
_LOADED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect|icon)["']?[^>]*\bhref=["']?(?:https?:)?//"""
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not name at its end."""
    assert config.nav is not None
    there = {file.name for file in Path(config.docs_dir).glob("*.md")}
    if more := sorted(there - set(_pages(config.nav))):
        config.nav = [*config.nav, {"More": more}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are files from outside of docs/."""
    for page, source in {"index.md": HOME, **COPIED}.items():
        text = links.moved((ROOT / source).read_text(encoding="utf-8"), source, f"docs/{page}")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated, and make links out of docs/ links into the repository."""
    markdown = _PART.sub(lambda part: GENERATED[part[1]]() if part[1] in GENERATED else "", markdown)
    markdown = links.plain_fences(markdown)
    try:
        return links.outward(
            markdown,
            f"docs/{page.file.src_uri}",
            ROOT,
            config.extra["repository"],
            is_page=lambda path: _is_page(files, path),
        )
    except FileNotFoundError as error:
        raise PluginError(str(error)) from error


def on_post_build(config: MkDocsConfig) -> None:
    """Make sure that no page needs the internet to be shown."""
    for file in Path(config.site_dir).rglob("*.html"):
        if found := _LOADED.search(file.read_text(encoding="utf-8")):
            raise PluginError(f"{file.name} loads something from elsewhere: {found[0]}")


def _is_page(files: Files, path: str) -> bool:
    file = files.get_file_from_path(path.removeprefix("docs/")) if path.startswith("docs/") else None
    return file is not None and file.inclusion is not InclusionLevel.EXCLUDED


def _pages(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        ((_, target),) = entry.items()
        if isinstance(target, list):
            yield from _pages(target)
        else:
            yield target
