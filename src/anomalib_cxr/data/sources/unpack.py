"""Unpack an archive that somebody else packed: nothing outside its folder, nothing half done, no bomb."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from anomalib_cxr.errors import DownloadError

MAX_FILES = 20_000
"""The larger official archive has some 1 300 files, twice that with what the packing system added."""

MAX_BYTES = 20_000_000_000
"""About five times what the larger official archive holds."""

MAX_RATIO = 10
"""PNG is compressed already, so an archive of radiographs unpacks to about its own size."""

_BLOCK = 1 << 20
_CLUTTER = {"__macosx", "thumbs.db", ".ds_store"}
_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def unpack(
    archive: Path,
    folder: Path,
    contents: Mapping[str, int],
    report: Callable[[int, int], object] = lambda done, total: (done, total),
) -> None:
    """Unpack the folder of that name from a zip archive; it appears complete and checked, or not at all.

    The checksum of each file is verified while it is written. What a file manager adds to archives is left out.

    Args:
        archive: The zip file.
        folder: The folder to create; the archive has a folder of the same name at its top.
        contents: The least number of files in it, by a pattern relative to the folder.
        report: Called with the bytes unpacked so far and in all, after each file.

    Raises:
        zipfile.BadZipFile: The archive is damaged, unsafe to unpack, or does not hold the contents.
        DownloadError: The disk has no room for it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     root = Path(name)
        ...     with zipfile.ZipFile(root / "set.zip", "w") as file:
        ...         file.writestr("Set/CXR_png/1.png", b"image")
        ...     unpack(root / "set.zip", root / "Set", {"CXR_png/*.png": 1})
        ...     (root / "Set/CXR_png/1.png").read_bytes()
        b'image'
    """
    with _readable(archive) as file, _scratch(folder) as scratch:
        members = _members(file, archive.stat().st_size)
        done, total = 0, sum(member.file_size for member in members)
        require_space(folder.parent, total, f"unpacking {archive.name}")
        for member in members:
            _extract(file, member, scratch / member.filename)
            done += member.file_size
            report(done, total)
        unpacked = scratch / folder.name
        if lacking := missing(unpacked, contents):
            raise zipfile.BadZipFile(f"{folder.name} in it has {lacking}")
        os.replace(unpacked, folder)  # noqa: PTH105 - the word for "atomic"


def missing(folder: Path, contents: Mapping[str, int]) -> str:
    """Name what a folder lacks of its contents.

    Args:
        folder: The folder; it need not exist.
        contents: The least number of files, by a pattern relative to the folder.

    Returns:
        Such as ``100 of 138 CXR_png/*.png``, or an empty string where nothing is missing.

    Example:
        >>> missing(Path("nowhere"), {"CXR_png/*.png": 138})
        '0 of 138 CXR_png/*.png'
    """
    counts = {pattern: sum(1 for _ in folder.glob(pattern)) for pattern in contents}
    return ", ".join(
        f"{counts[pattern]} of {least} {pattern}" for pattern, least in contents.items() if counts[pattern] < least
    )


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        folder: An existing folder on the disk.
        size: Bytes that will be written.
        purpose: What they are written for, for the message.

    Raises:
        DownloadError: The disk has fewer free bytes.

    Example:
        >>> require_space(Path(), 1, "one more byte")
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DownloadError(
            f"{free:,} free bytes in {folder}",
            f"at least {size:,} for {purpose}",
            "make room or choose another root, then start again; what has been fetched is kept",
        )


@contextmanager
def _readable(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file, and call all ways in which it may be damaged by one name."""
    try:
        with zipfile.ZipFile(archive) as file:
            yield file
    except (zlib.error, EOFError, UnicodeError, NotImplementedError) as error:
        raise zipfile.BadZipFile(f"damaged: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise zipfile.BadZipFile("damaged: it points to a place before its beginning") from error


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Make an empty folder beside the final one; the name is fixed so that a killed run's rest is found."""
    scratch = folder.with_name(f".{folder.name}.unpacking")
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _members(file: zipfile.ZipFile, packed: int) -> list[zipfile.ZipInfo]:
    """List the files to unpack, after all of them were judged.

    The sizes are those that the archive declares; ``zipfile`` never yields more than that.
    """
    entries = file.infolist()
    for entry in entries:
        _require_safe(entry)
    members = [entry for entry in entries if not entry.is_dir() and not _is_clutter(entry)]
    total = sum(member.file_size for member in members)
    if len(entries) > MAX_FILES:
        raise zipfile.BadZipFile(f"{len(entries):,} entries, more than {MAX_FILES:,}")
    if total > min(MAX_BYTES, MAX_RATIO * packed):
        raise zipfile.BadZipFile(f"{packed:,} bytes would unpack to {total:,}, as in a decompression bomb")
    if len({member.filename.casefold() for member in members}) < len(members):
        raise zipfile.BadZipFile("two entries of the same name")
    return members


def _require_safe(entry: zipfile.ZipInfo) -> None:
    """Refuse an entry that leaves the folder on any system, or that is neither a file nor a folder."""
    # The name as stored: on Windows, zipfile has turned the separators of ``filename`` already.
    name = entry.orig_filename
    if not name or name.startswith("/") or ".." in name.split("/") or any(character in name for character in "\\:\0"):
        raise zipfile.BadZipFile(f"unsafe path {name!r}")
    # Archives packed on Windows have no Unix mode: zero.
    if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise zipfile.BadZipFile(f"{name!r} is a link or a device")
    if entry.flag_bits & 1 or entry.compress_type not in _READABLE:
        raise zipfile.BadZipFile(f"{name!r} is encrypted or packed by an unknown method")


def _is_clutter(entry: zipfile.ZipInfo) -> bool:
    return any(part.casefold() in _CLUTTER for part in PurePosixPath(entry.filename).parts)


def _extract(file: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open(member) as packed, target.open("xb") as unpacked:
        shutil.copyfileobj(packed, unpacked, _BLOCK)
