"""Download of the official Montgomery and Shenzhen archives of the National Library of Medicine.

No checksums of them are published. What is known is verified: the size, the number of files, and the CRC-32 that a zip
archive holds of each of its files.
"""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from filelock import FileLock
from rich.progress import track

from anomalib_cxr.errors import DownloadError, SettingError

PAGE = "https://openi.nlm.nih.gov/imgs/collections/"
"""Page of the publisher that offers both archives."""
MAX_SIZE = 5_000_000_000
"""Largest archive that is fetched, in bytes; the larger official one has about 3.77 GB."""
MAX_RATIO = 10
"""Largest ratio of unpacked to packed size; PNG is compressed already, so that of the official archives is about 1."""
RETRIES = 9
"""Further attempts after the connection broke, with pauses of 1, 2, ... 9 seconds."""

_CHUNK = 1 << 16
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def _is_trusted(url: str) -> bool:
    """Return True for an address by https or on this machine, whose content nobody can replace in transit."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


@dataclass(frozen=True)
class Archive:
    """Zip archive of a data set.

    Args:
        name: Name of the data set, for messages.
        url: Address by https, or by http on this machine; ends with the name of the file.
        folder: The folder at the top of the archive.
        contents: The least number of files in that folder, by a pattern relative to it.
        size: Exact number of bytes, where known.
        sha256: Checksum in hexadecimal digits, where known.

    Raises:
        SettingError: If the address is neither by https nor on this machine.

    Example:
        >>> Archive("Toy", "https://example.org/toy.zip", "Toy", {"CXR_png/*.png": 2}).file_name
        'toy.zip'
    """

    name: str
    url: str
    folder: str
    contents: Mapping[str, int]
    size: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not _is_trusted(self.url):
            raise SettingError(f"url = {self.url!r}", "an address by https", "ask the publisher for one")

    @property
    def file_name(self) -> str:
        """Name of the zip file."""
        return urlsplit(self.url).path.rpartition("/")[2]


OFFICIAL_ARCHIVES = (
    Archive(
        name="Montgomery",
        url=f"{PAGE}NLM-MontgomeryCXRSet.zip",
        folder="MontgomerySet",
        contents={"CXR_png/*.png": 138, "ManualMask/leftMask/*.png": 138, "ManualMask/rightMask/*.png": 138},
        size=616_853_875,
    ),
    Archive(
        name="Shenzhen",
        url=f"{PAGE}ChinaSet_AllFiles.zip",
        folder="ChinaSet_AllFiles",
        contents={"CXR_png/*.png": 662},
    ),
)
"""The two data sets as their publisher offers them, 138 and 662 radiographs."""


def download_archives(root: Path, archives: Sequence[Archive] = OFFICIAL_ARCHIVES) -> None:
    """Fetch and unpack the archives whose folders are missing.

    A complete folder is left alone, without any request. A zip file that a user has put into the root is verified,
    used and kept. What is fetched lies in `root/.download` until it is unpacked, and an interrupted transfer is
    continued there, also in a later run. One process at a time works in a root, the others wait for it.

    Args:
        root: The data folder, created if need be.
        archives: Archives to fetch.

    Raises:
        DownloadError: If an archive cannot be fetched, is not the publisher's, or cannot be written; or if its folder
            is there but incomplete.

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
    if all([_is_installed(archive, root) for archive in archives]):  # noqa: C419  # check all before the first request
        return
    try:
        folder = root / ".download"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            for archive in archives:
                if not _is_installed(archive, root):  # another process may have done it meanwhile
                    _install(archive, root, folder)
    except OSError as error:
        raise DownloadError(
            str(error),
            f"room and permission to write in {root}",
            "correct that and start again; what has been fetched is kept and continued",
        ) from error


def _is_installed(archive: Archive, root: Path) -> bool:
    """Return True if the folder is there; refuse an incomplete one, which this module never leaves behind."""
    folder = root / archive.folder
    if not folder.exists():
        return False
    if missing := _missing_files(folder, archive.contents):
        raise DownloadError(
            f"{folder} with {missing}",
            f"all files of the {archive.name} archive, or no such folder",
            f"move {folder} away and start again, or complete it from {PAGE}",
        )
    return True


def _missing_files(folder: Path, contents: Mapping[str, int]) -> str:
    counts = {pattern: sum(1 for _ in folder.glob(pattern)) for pattern in contents}
    return ", ".join(
        f"{counts[pattern]} of {least} {pattern}" for pattern, least in contents.items() if counts[pattern] < least
    )


def _install(archive: Archive, root: Path, download_folder: Path) -> None:
    path = root / archive.file_name
    fetched = not path.exists()
    if fetched:
        path = _fetch(archive, download_folder)
    try:
        _verify(archive, path)
        _unpack(path, root / archive.folder, archive.contents)
    except zipfile.BadZipFile as error:
        next_step = "remove that file and start again to have it fetched, or fetch it anew by hand"
        if fetched:
            path.unlink()
            next_step = "start again to fetch it anew; the damaged file has been removed"
        expected = f"the {archive.name} archive as offered at {PAGE}"
        raise DownloadError(f"{path}: {error}", expected, next_step) from error
    if fetched:
        path.unlink()


def _fetch(archive: Archive, folder: Path) -> Path:
    name = archive.file_name
    source = pooch.create(folder, base_url="", registry={name: None}, urls={name: archive.url}, retry_if_failed=RETRIES)
    try:
        return Path(source.fetch(name, downloader=partial(_continue_download, archive)))
    except (requests.RequestException, zipfile.BadZipFile) as error:
        raise DownloadError(
            f"{archive.url}: {error}",
            f"the {archive.name} archive from its publisher's server",
            f"start again later to continue, or fetch {archive.url} in a browser and put the file into {folder.parent}",
        ) from error


def _continue_download(archive: Archive, url: str, output_file: str, _: pooch.Pooch) -> None:
    """Continue a partial file; a downloader for pooch, whose own ones start from the beginning.

    A partial file of an earlier version of the archive is detected by the checksums when it is unpacked.
    """
    part = Path(output_file).with_name(f"{archive.file_name}.part")
    with part.open("ab") as file:
        start = file.tell()

        def check_response(response: requests.Response, **_: object) -> None:
            if not _is_trusted(response.url):
                raise zipfile.BadZipFile(f"redirected to {response.url}")
            if response.status_code in {HTTPStatus.OK, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
                file.truncate(0)  # the whole file follows, or another attempt
            if response.status_code in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                remaining = int(response.headers.get("Content-Length", 0))
                total = remaining + (start if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0)
                _check_size(archive, total)
                _require_space(part.parent, remaining + total)  # radiographs are as large unpacked as packed

        headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
        hooks = {"response": check_response}
        download = pooch.HTTPDownloader(progressbar=True, chunk_size=_CHUNK, timeout=60, headers=headers, hooks=hooks)
        download(url, file, None)
    os.replace(part, output_file)  # noqa: PTH105  # atomic


def _check_size(archive: Archive, size: int) -> None:
    if archive.size not in {None, size}:
        raise zipfile.BadZipFile(f"{size:,} bytes instead of {archive.size:,}")
    if size > MAX_SIZE:
        raise zipfile.BadZipFile(f"{size:,} bytes instead of at most {MAX_SIZE:,}")


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"{free:,} free bytes in {folder}, of {size:,} that are needed")


def _verify(archive: Archive, path: Path) -> None:
    """Compare a zip file, fetched or put there by hand, with all that is known of the archive."""
    _check_size(archive, path.stat().st_size)
    if archive.sha256 and (digest := pooch.file_hash(str(path))) != archive.sha256.lower():
        raise zipfile.BadZipFile(f"sha256 {digest} instead of {archive.sha256}")


def _unpack(archive: Path, folder: Path, contents: Mapping[str, int]) -> None:
    """Unpack the folder of that name from a zip archive; it appears complete and verified, or not at all."""
    scratch = folder.with_name(f".{folder.name}.unpacking")  # a fixed name: a killed run's remains are removed here
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            _refuse_unsafe(file.infolist(), archive.stat().st_size)
            entries = [entry for entry in file.infolist() if entry.filename.startswith(f"{folder.name}/")]
            _require_space(folder.parent, sum(entry.file_size for entry in entries))
            for entry in track(entries, f"Unpacking {archive.name}", transient=True):
                file.extract(entry, scratch)  # verifies the CRC-32, and writes links as plain files
        if missing := _missing_files(scratch / folder.name, contents):
            raise zipfile.BadZipFile(f"{folder.name} in it has {missing}")
        os.replace(scratch / folder.name, folder)  # noqa: PTH105  # atomic
    except (zlib.error, EOFError, UnicodeError, RuntimeError) as error:  # the last one of encrypted files
        raise zipfile.BadZipFile(f"damaged: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_unsafe(entries: Sequence[zipfile.ZipInfo], packed: int) -> None:
    """Refuse paths outside the folder, on any system, and decompression bombs.

    The sizes are those that the archive declares; `zipfile` never writes more than that.
    """
    for name in (entry.orig_filename for entry in entries):  # as stored: `filename` has its separators replaced
        if name.startswith("/") or ".." in name.split("/") or any(character in name for character in "\\:\0"):
            raise zipfile.BadZipFile(f"unsafe path {name!r}")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_RATIO * packed:
        raise zipfile.BadZipFile(f"{packed:,} bytes would unpack to {unpacked:,}, as in a decompression bomb")
