"""Fetch one large file over HTTP, going on where a broken transfer stopped.

A transfer goes on only if the server vouches that the file is still the same (RFC 9110, sections 13.1.5 and 14.2):
the strong ETag, or else the date, of the first answer is kept beside the partial file and sent as ``If-Range``.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from anomalib_cxr.errors import DownloadError

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""Broken transfers in a row, each of less than a block, before giving up: half a minute with the pauses."""
BACKOFF_SECONDS = 1.0
"""The first pause; each further one is twice as long."""
TIMEOUT_SECONDS = 60.0
"""Silence of the server after which a transfer counts as broken."""

_BLOCK = 1 << 20
_PASSING = {408, 416, 425, 429, 500, 502, 503, 504}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class _BrokenOffError(Exception):
    """A transfer failed in a way that another attempt may mend."""


@dataclass(frozen=True)
class _Origin:
    """What the server said of the file that a partial file is the beginning of."""

    url: str
    validator: str | None
    total: int


@dataclass(frozen=True)
class PartialFile:
    """A file on its way, with a note beside it of what it is the beginning of.

    Args:
        path: Where the bytes go.

    Example:
        >>> PartialFile(Path("set.zip.part")).note.name
        'set.zip.part.json'
    """

    path: Path

    @property
    def note(self) -> Path:
        """The file beside it."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """Bytes fetched so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self, url: str) -> _Origin | None:
        """Read the note; None if there is none, it is damaged or it is about another address."""
        try:
            origin = _Origin(**json.loads(self.note.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return origin if origin.url == url else None

    def begin(self, origin: _Origin) -> None:
        """Start from the first byte; in this order, so that no note ever describes another file's bytes."""
        self.path.write_bytes(b"")
        self.note.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def discard(self) -> None:
        """Remove the file and its note."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def is_trusted(url: str) -> bool:
    """Tell whether nobody on the way can replace what comes from an address: https, or this very machine.

    Example:
        >>> [is_trusted(url) for url in ("https://example.org/a", "http://example.org/a", "http://127.0.0.1/a")]
        [True, False, True]
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def fetch(
    url: str,
    part: PartialFile,
    accept: Callable[[int, int], object],
    report: Callable[[int, int], object],
) -> None:
    """Bring a partial file to its full length, with pauses and further attempts where the connection breaks.

    Args:
        url: The address.
        part: The partial file; if it is complete already, nothing is requested.
        accept: Called with the full length and the bytes still to come before any is written; raises to refuse.
        report: Called with the bytes so far and the full length.

    Raises:
        DownloadError: The server refuses, or the connection kept breaking.
    """
    failures, furthest = 0, part.size
    while True:
        try:
            _attempt(url, part, accept, report)
        except _BrokenOffError as error:  # noqa: PERF203 - nothing beside the time of a transfer
            failures = 0 if part.size - furthest >= _BLOCK else failures + 1
            furthest = max(furthest, part.size)
            if failures == ATTEMPTS:
                raise _failure(url, f"{error}, {ATTEMPTS} times in a row", part) from error
            logger.warning("%s: %s; trying again", url, error)
            time.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))
        else:
            return


def _attempt(
    url: str, part: PartialFile, accept: Callable[[int, int], object], report: Callable[[int, int], object]
) -> None:
    origin, start = part.origin(url), part.size
    if origin is not None and start == origin.total:
        report(start, start)
        return
    with _open(url, part, _range(origin, start)) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT and origin is not None:
            _require_continuation(response.headers, origin, start, part)
        else:
            start = 0
            origin = _Origin(url, _validator(response.headers), _length(response, part))
        accept(origin.total, origin.total - start)
        if start == 0:
            part.begin(origin)
        with part.path.open("ab") as file:
            for block in _blocks(response):
                file.write(block)
                report(file.tell(), origin.total)
    if part.size != origin.total:
        raise _BrokenOffError(f"the connection ended after {part.size:,} of {origin.total:,} bytes")


def _range(origin: _Origin | None, start: int) -> dict[str, str]:
    """Ask for the rest only where the server can tell whether it is the rest of the same file."""
    if origin is None or origin.validator is None or not 0 < start < origin.total:
        return {}
    return {"Range": f"bytes={start}-", "If-Range": origin.validator}


def _open(url: str, part: PartialFile, headers: dict[str, str]) -> HTTPResponse:
    request = Request(url, headers={"User-Agent": "anomalib-cxr", **headers})  # noqa: S310 - the address is trusted
    try:
        response: HTTPResponse = urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except HTTPError as error:
        error.close()
        if error.code not in _PASSING:
            raise _failure(url, f"HTTP {error.code} {error.reason}", part) from error
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
        raise _BrokenOffError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error
    if not is_trusted(response.url):
        response.close()
        raise _failure(url, f"a redirection to {response.url}", part)
    return response


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield what arrives, and name the errors of the network, so that those of the disk stay apart."""
    while True:
        try:
            block = response.read1(_BLOCK)
        except (OSError, HTTPException) as error:
            raise _BrokenOffError(str(error) or type(error).__name__) from error
        if not block:
            return
        yield block


def _require_continuation(headers: Message, origin: _Origin, start: int, part: PartialFile) -> None:
    """Check that a partial answer goes on exactly where the partial file ends, in the same version of the file."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    same_version = _validator(headers) in {None, origin.validator}
    if found is None or (int(found[1]), int(found[2])) != (start, origin.total) or not same_version:
        part.discard()
        raise _BrokenOffError("the server sent another part of the file than the one asked for")


def _validator(headers: Message) -> str | None:
    """Name the version of the file; a weak ETag does not promise the same bytes."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _length(response: HTTPResponse, part: PartialFile) -> int:
    if response.length is None:
        raise _failure(response.url, "an answer without the length of the file", part)
    return response.length


def _failure(url: str, found: str, part: PartialFile) -> DownloadError:
    kept = f"; {part.size:,} bytes are kept in {part.path}" if part.size else ""
    return DownloadError(
        f"{found} from {url}{kept}",
        "the file, from its publisher's server",
        f"start again later, or fetch {url} in a browser and put the file into {part.path.parent}",
    )
