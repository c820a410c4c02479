"""Search of folders for radiographs: what is found, and by name whatever is left out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from anomalib_cxr.errors import RadiographError
from anomalib_cxr.utils.path_text import path_as_text

from .dicom_file import is_dicom
from .dicomdir import DICOMDIR
from .picture import is_picture
from .written import MARKER

logger = logging.getLogger(__name__)

HIDDEN = "hidden: the name begins with a dot"
DOCUMENT = "text, table or document, not an image by its content"
INDEX = "DICOMDIR: the files that it lists are searched themselves"
REPEATED = "link to what is listed under another name"
DANGLING = "link to nothing"
SPECIAL = "neither a file nor a folder"
LOCKED = "folder that cannot be opened"
WRITTEN = "written by anomalib_cxr, such as heatmaps of an earlier screening"
_NAMED = 3  # files of a kind that the log names
# fmt: off
_DOCUMENTS = frozenset({
    ".cfg", ".csv", ".db", ".doc", ".docx", ".htm", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".rtf",
    ".sqlite", ".sqlite-shm", ".sqlite-wal", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
})
# fmt: on


class FoundFiles(NamedTuple):
    """Result of a search."""

    files: list[Path]
    """Files that may be radiographs, sorted."""
    left_out: dict[str, list[Path]]
    """Files and folders that were left out, by the reason."""


class _Place(NamedTuple):
    """A file or a folder under the name that the user knows, and under its real one."""

    path: Path
    real: str


def find_radiographs(folder: Path) -> FoundFiles:
    """Search a folder and its subfolders for files that may be radiographs.

    Links to files and folders are followed, each target once. Files with the suffix of a document, such as `.txt`, are
    judged by their content, all others are taken.

    Args:
        folder: The folder.

    Returns:
        The files below the folder as it was given, and what was left out: what is hidden, linked twice, locked, no
        image or written by this package. Of a folder that is left out its content is not listed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     for file in ("chest.png", "notes.txt", ".hidden"):
        ...         Path(name, file).write_text("text")
        ...     found = find_radiographs(Path(name))
        4
        4
        4
        >>> [file.name for file in found.files], {reason[:6]: len(paths) for reason, paths in found.left_out.items()}
        (['chest.png'], {'hidden': 1, 'text, ': 1})
    """
    search = _Search()
    search.run(folder)
    return FoundFiles(
        sorted(search.found.values()), {reason: sorted(paths) for reason, paths in sorted(search.left_out.items())}
    )


def list_radiographs(folder: Path) -> list[Path]:
    """Search a folder as :func:`find_radiographs` does, and log what is left out.

    Args:
        folder: The folder.

    Returns:
        The files, sorted.
    """
    found = find_radiographs(folder)
    log_left_out(folder, found)
    return found.files


def log_left_out(folder: Path, found: FoundFiles) -> None:
    """Log what a search has left out: as information, and as a warning what may hold radiographs.

    Args:
        folder: The folder that was searched.
        found: Result of the search.
    """
    for reason, paths in found.left_out.items():
        named = ", ".join(map(path_as_text, paths[:_NAMED])) + ", ..." * (len(paths) > _NAMED)
        level = logging.WARNING if reason.startswith(LOCKED) else logging.INFO
        logger.log(level, "%s: left out %d (%s): %s", path_as_text(folder), len(paths), reason, named)


class _Search:
    """Search by a list of folders to go and not by recursion: folders may be nested more deeply than Python calls."""

    def __init__(self) -> None:
        self.found: dict[str, Path] = {}  # by the real path
        self.left_out: dict[str, list[Path]] = {}
        self._searched: set[str] = set()  # real paths of folders
        self._folders: list[_Place] = []
        self._links: list[Path] = []

    def run(self, folder: Path) -> None:
        self._folders.append(_Place(folder, os.path.realpath(folder)))
        while self._folders or self._links:
            if self._folders:
                self._search(self._folders.pop())
            else:  # last of all, so that what is also there without a link is listed by its own name
                self._follow(self._links.pop())

    def _leave_out(self, reason: str, path: Path) -> None:
        self.left_out.setdefault(reason, []).append(path)

    def _search(self, folder: _Place) -> None:
        if folder.real in self._searched:
            self._leave_out(REPEATED, folder.path)
            return
        self._searched.add(folder.real)
        try:
            entries = list(_entries(folder.path))
        except OSError as error:
            self._leave_out(f"{LOCKED}: {error.strerror}", folder.path)
            return
        if any(entry.name == MARKER for entry in entries):
            self._leave_out(WRITTEN, folder.path)
            return
        for entry in entries:
            self._sort_in(entry, _Place(folder.path / entry.name, os.path.join(folder.real, entry.name)))  # noqa: PTH118

    def _sort_in(self, entry: os.DirEntry[str], place: _Place) -> None:
        if entry.name.startswith("."):
            self._leave_out(HIDDEN, place.path)
        elif entry.is_symlink():
            self._links.append(place.path)
        elif entry.is_dir(follow_symlinks=False):
            self._folders.append(place)
        elif entry.is_file(follow_symlinks=False):
            self._take(place)
        else:
            self._leave_out(SPECIAL, place.path)

    def _follow(self, link: Path) -> None:
        target = _Place(link, os.path.realpath(link))
        if os.path.isdir(target.real):  # noqa: PTH112
            self._folders.append(target)
        elif os.path.isfile(target.real):  # noqa: PTH113
            self._take(target)
        else:
            self._leave_out(SPECIAL if os.path.exists(target.real) else DANGLING, link)  # noqa: PTH110

    def _take(self, file: _Place) -> None:
        if file.real in self.found:
            self._leave_out(REPEATED, file.path)
        elif file.path.name.upper() == DICOMDIR:
            self._leave_out(INDEX, file.path)
        elif file.path.suffix.lower() in _DOCUMENTS and not _is_image(file.path):
            self._leave_out(DOCUMENT, file.path)
        else:
            self.found[file.real] = file.path


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _is_image(path: Path) -> bool:
    """Return whether a file is an image by its first bytes; one that cannot be opened may be."""
    try:
        return is_dicom(path) or is_picture(path)
    except RadiographError:
        with suppress(OSError):
            return path.stat().st_size > 0
        return True
