"""Official downloads, checked against the checksums published beside them."""

import contextlib
import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.support.cluster.sources import Report, SourceError

# The checksum comes first and is small: no answer within this time means that the machine has no access.
_CONNECT_SECONDS = 5
_STALL_SECONDS = 60


def get_text(url: str) -> str:
    """Read a small file, such as a checksum.

    Raises:
        SourceError: It cannot be read.
    """
    with _response(url, _CONNECT_SECONDS) as response:
        return response.read().decode()


def get_file(url: str, checksum: str, path: Path, report: Report) -> None:
    """Download one file; it gets its name only with the right checksum.

    Args:
        url: Where it is.
        checksum: SHA-256, in hexadecimal.
        path: Where it goes.
        report: Hears of it before it starts.

    Raises:
        SourceError: It cannot be read, or is not what the checksum names.
    """
    report(f"downloading {url}")
    unchecked = path.with_name(f"{path.name}.unchecked")
    with _response(url, _STALL_SECONDS) as response, unchecked.open("wb") as file:
        shutil.copyfileobj(response, file)
    with unchecked.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != checksum:
        raise SourceError(f"{url} has the wrong checksum: {actual} instead of {checksum}")
    unchecked.rename(path)


@contextlib.contextmanager
def _response(url: str, timeout_seconds: float) -> Iterator[http.client.HTTPResponse]:
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            yield response
    except urllib.error.HTTPError as error:
        with error:  # a response as well, which holds the connection
            raise SourceError(f"{url} cannot be read: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"{url} cannot be read: {getattr(error, 'reason', error)}") from error
