"""Fetch the official Montgomery and Shenzhen archives of the National Library of Medicine.

The archives come without published checksums; what is known of them (size, number of files) is checked, and the
checksum that a zip archive holds of each of its files.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from anomalib_cxr.errors import DownloadError, SettingError

from .transfer import PartialFile, fetch, is_trusted
from .unpack import missing, require_space, unpack

PAGE = "https://openi.nlm.nih.gov/imgs/collections/"
"""Where the publisher offers both archives."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A zip archive, where to fetch it, and what is known of it.

    Args:
        name: Name of the data set, for messages.
        url: Address by https, or by http on this machine; ends with the name of the file.
        folder: The folder at the top of the archive.
        contents: The least number of files in that folder, by a pattern relative to it.
        size: Exact number of bytes, where known.
        max_size: Largest number of bytes to accept where ``size`` is unknown.
        sha256: Checksum in hexadecimal digits, where known.

    Raises:
        SettingError: The address is not one of a server that can be trusted to be the publisher's.

    Example:
        >>> Archive("Toy", "https://example.org/toy.zip", "Toy", {"CXR_png/*.png": 2}).file_name
        'toy.zip'
    """

    name: str
    url: str
    folder: str
    contents: Mapping[str, int]
    size: int | None = None
    max_size: int = 5_000_000_000
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not is_trusted(self.url):
            raise SettingError(f"url = {self.url!r}", "an address by https", "ask the publisher for one")

    @property
    def file_name(self) -> str:
        """Name of the zip file."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def expected_size(self) -> str:
        """What is known of the size, in words."""
        return f"at most {self.max_size:,} bytes" if self.size is None else f"exactly {self.size:,} bytes"

    def has_size(self, size: int) -> bool:
        """Tell whether a number of bytes agrees with what is known."""
        return size <= self.max_size if self.size is None else size == self.size


OFFICIAL_ARCHIVES = (
    Archive(
        name="Montgomery",
        url=f"{PAGE}NLM-MontgomeryCXRSet.zip",
        folder="MontgomerySet",
        contents={"CXR_png/*.png": 138, "ManualMask/leftMask/*.png": 138, "ManualMask/rightMask/*.png": 138},
        size=616_853_875,
    ),
    Archive(  # about 3.77 GB
        name="Shenzhen",
        url=f"{PAGE}ChinaSet_AllFiles.zip",
        folder="ChinaSet_AllFiles",
        contents={"CXR_png/*.png": 662},
    ),
)
"""The two data sets as their publisher offers them, 138 and 662 radiographs."""


class _UnusableArchiveError(DownloadError):
    """A zip file is damaged, unsafe, or not the one that was asked for."""


def download_archives(root: Path, archives: Sequence[Archive] = OFFICIAL_ARCHIVES) -> None:
    """Make sure that the unpacked archives are in a folder.

    A complete folder is left alone, without any request. A zip file that lies in the root, put there by hand, is
    checked, used and kept. What is fetched goes to ``<file>.part``, is continued there after an interruption, also in
    a later run, and is removed once unpacked. One process at a time works in a root, the others wait for it.

    Args:
        root: The data folder, created if need be.
        archives: What to fetch.

    Raises:
        DownloadError: An archive cannot be fetched, is not what its publisher describes, or cannot be written; or its
            folder is there but incomplete.

    Example:
        >>> import tempfile
        >>> toy = Archive("Toy", "https://example.org/toy.zip", "Toy", {"CXR_png/*.png": 1})
        >>> with tempfile.TemporaryDirectory() as name:
        ...     with zipfile.ZipFile(Path(name, "toy.zip"), "w") as file:
        ...         file.writestr("Toy/CXR_png/1.png", b"image")
        ...     download_archives(Path(name), [toy])
        ...     Path(name, "Toy/CXR_png/1.png").exists()
        True
    """
    if all([_is_installed(archive, root) for archive in archives]):  # noqa: C419 - look at all before the first request
        return
    with _disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".download.lock"):
            for archive in archives:
                if not _is_installed(archive, root):  # another process may have done it meanwhile
                    _install(archive, root)


def _is_installed(archive: Archive, root: Path) -> bool:
    """Tell a complete folder from none; an incomplete one is not ours, for ours appear complete."""
    folder = root / archive.folder
    if not folder.exists():
        return False
    if lacking := missing(folder, archive.contents):
        raise DownloadError(
            f"{folder} with {lacking}",
            f"all files of the {archive.name} archive, or no such folder",
            f"move {folder} away and start again, or complete it from {PAGE}",
        )
    return True


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            str(error),
            f"room and permission to write in {root}",
            "put that right and start again; what has been fetched is kept and continued",
        ) from error


def _install(archive: Archive, root: Path) -> None:
    by_hand = root / archive.file_name
    part = PartialFile(root / f"{archive.file_name}.part")
    if by_hand.exists():
        _unpack(archive, by_hand, "remove that file and start again to have it fetched, or fetch it anew by hand")
    else:
        _fetch(archive, part)
        try:
            _unpack(archive, part.path, "start again to fetch it anew; the damaged file has been removed")
        except _UnusableArchiveError:
            part.discard()
            raise
    part.discard()


def _fetch(archive: Archive, part: PartialFile) -> None:
    def accept(total: int, remaining: int) -> None:
        if not archive.has_size(total):
            raise DownloadError(
                f"{archive.url} of {total:,} bytes",
                archive.expected_size,
                f"fetch the {archive.name} archive by hand from {PAGE} and unpack it in {part.path.parent}",
            )
        # Radiographs in PNG do not shrink any further, so they need about the same space again once unpacked.
        require_space(part.path.parent, remaining + total, f"fetching and unpacking {archive.file_name}")

    with _progress(f"fetching {archive.file_name}") as report:
        fetch(archive.url, part, accept, report)


def _unpack(archive: Archive, file: Path, next_step: str) -> None:
    try:
        _require_known(archive, file)
        with _progress(f"unpacking {archive.file_name}") as report:
            unpack(file, file.parent / archive.folder, archive.contents, report)
    except zipfile.BadZipFile as error:
        expected = f"the {archive.name} archive as offered at {PAGE}"
        raise _UnusableArchiveError(f"{file}: {error}", expected, next_step) from error


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on the error stream, moved by the bytes done and in all."""
    text, speed, rest = TextColumn("{task.description}"), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(text, BarColumn(), DownloadColumn(), speed, rest, console=Console(stderr=True)) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _require_known(archive: Archive, path: Path) -> None:
    """Compare a file with all that is known of the archive beforehand."""
    size = path.stat().st_size
    if not archive.has_size(size):
        raise zipfile.BadZipFile(f"{size:,} bytes instead of {archive.expected_size}")
    if archive.sha256 and (digest := _sha256(path)) != archive.sha256.lower():
        raise zipfile.BadZipFile(f"sha256 {digest} instead of {archive.sha256}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
