"""Links and fences of pages that have to be right both in the repository and on the site."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

_LINK = re.compile(r"(\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"^( *```)(\w+)[ \t]+[\w-].*$", re.MULTILINE)


def resolve(page: str, target: str) -> str:
    """The path in the repository that a page's relative link leads to.

    >>> resolve("docs/api.md", "../manifests/samples/")
    'manifests/samples'
    """
    return os.path.normpath(PurePosixPath(page).parent / target)


def moved(markdown: str, page: str, place: str) -> str:
    """The text of a page for another place: its links lead where they led.

    >>> moved("[a](docs/api.md#tokens) [b](LICENSE)", "README.md", "docs/index.md")
    '[a](api.md#tokens) [b](../LICENSE)'
    """

    def there(link: re.Match[str]) -> str:
        path = os.path.relpath(resolve(page, link[2]), PurePosixPath(place).parent)
        return f"{link[1]}{path}{link[3] or ''}{link[4]}"

    return _LINK.sub(there, markdown)


def outward(markdown: str, page: str, root: Path, repository: str, is_page: Callable[[str], bool]) -> str:
    """The text with links to what is no page of the site made links into the repository.

    Args:
        markdown: The page's text.
        page: Its path in the repository.
        root: The repository.
        repository: Its address.
        is_page: Whether a path in the repository is a page, or another file, of the site.

    Raises:
        FileNotFoundError: A link leads nowhere; with the page and the link.
    """

    def outside(link: re.Match[str]) -> str:
        path = resolve(page, link[2])
        if is_page(path):
            return link[0]
        if not (root / path).exists():
            raise FileNotFoundError(f"{page} links to {link[2]}, which is not there")
        kind = "tree" if (root / path).is_dir() else "blob"
        return f"{link[1]}{repository}/{kind}/main/{path}{link[3] or ''}{link[4]}"

    return _LINK.sub(outside, markdown)


def plain_fences(markdown: str) -> str:
    """The text with the language alone after ```, without what tells tests how to run a block.

    >>> plain_fences("```shell no-test\\nls\\n```")
    '```shell\\nls\\n```'
    """
    return _FENCE.sub(r"\1\2", markdown)
