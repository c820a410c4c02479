"""Room for caches: a bound on all of them, and what is told where they cannot be written."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from anomalib_cxr.errors import DatasetError, SettingError

logger = logging.getLogger(__name__)

SUFFIX = ".pictures"
GIGABYTE = 10**9


def lock_of(path: Path, timeout: float = -1) -> FileLock:
    """Return the lock of a cache: who holds it may write.

    Args:
        path: The cache.
        timeout: Seconds to wait for it; -1 for as long as it takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # X-rays of patients: for their user only
    return FileLock(path.with_suffix(".lock"), timeout=timeout)


def make_room(path: Path, wanted: int, gigabytes: float) -> None:
    """Delete caches that were not used for longest, until one has room to grow within the bound.

    Args:
        path: The cache that is to grow; it is kept itself, and so are those that somebody is writing.
        wanted: Bytes that it is to have.
        gigabytes: Bound on all caches in its folder.

    Raises:
        SettingError: If it exceeds the bound by itself, or with those that are being written.
        DatasetError: If the disk has no room for it.
    """
    sizes = {each: each.stat().st_size for each in path.parent.glob(f"*{SUFFIX}") if each != path}
    for other in sorted(sizes, key=lambda each: each.stat().st_mtime):
        if sum(sizes.values()) + wanted > gigabytes * GIGABYTE and _deleted(other):
            del sizes[other]
    if sum(sizes.values()) + wanted > gigabytes * GIGABYTE:
        others = f", beside {sum(sizes.values()) / GIGABYTE:.3g} GB that are being written" if sizes else ""
        raise SettingError(
            f"a cache of {wanted / GIGABYTE:.3g} GB{others}",
            f"at most cache_gigabytes = {gigabytes:g}",
            "raise data.init_args.cache_gigabytes, or set data.init_args.cache to false to read the files each time",
        )
    missing = wanted - (path.stat().st_size if path.exists() else 0)
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise DatasetError(
            f"{free / GIGABYTE:.3g} GB free in {path.parent}",
            f"{missing / GIGABYTE:.3g} GB for the cache of decoded images",
            "choose another data.init_args.cache_folder, or set data.init_args.cache to false",
        )


def _deleted(path: Path) -> bool:
    """Delete a cache unless somebody is writing it; who is reading it goes on with what it has mapped."""
    with suppress(Timeout), lock_of(path, timeout=0):
        path.unlink(missing_ok=True)
        logger.info("Deleted to make room: cache %s", path)
        return True
    return False


@contextmanager
def written_or_told(folder: Path) -> Iterator[None]:
    """Say in the user's words that a cache cannot be written.

    Raises:
        DatasetError: In place of what the system raises.
    """
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"a folder of caches that cannot be written: {error.strerror or error}: {error.filename or folder}",
            "a folder with room that may be written",
            "choose another data.init_args.cache_folder, or set data.init_args.cache to false",
        ) from error
