"""Backup of a worklist while it is in use, and its restoration."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing, nullcontext
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from anomalib_cxr._version import __version__
from anomalib_cxr.errors import DatasetError, ScreeningError
from anomalib_cxr.utils.files import atomic_folder, private_file, private_folder

from .database import DATABASE, WorklistDatabase
from .lock import maintenance_lock

MANIFEST = "backup.json"
"""Name of the file that a complete backup has: hashes of all others."""
_CHUNK = 2**20  # bytes
_WAIT = 10  # seconds, for another program that writes a file
_OF_SQLITE = ("-wal", "-shm", "-journal")


class _File(NamedTuple):
    size: int
    sha256: str


class Manifest(BaseModel):
    """Content of `backup.json`.

    Attributes:
        format: Format of this file.
        version: Version of anomalib_cxr.
        made: Time of the backup, UTC, ISO 8601.
        files: Size in bytes and SHA-256 of each file, by its path in the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    version: str
    made: str
    files: dict[str, _File]

    @property
    def megabytes(self) -> float:
        """Size of all files in MB."""
        return sum(size for size, _ in self.files.values()) / 1e6


def back_up_worklist(folder: Path, backup: Path) -> Manifest:
    """Copy a worklist, whole or not at all; it may be read and written meanwhile.

    The database is copied first, by SQLite's own online backup: as it is at one moment. Images are written before
    their rows, so all that it names are there to be copied after it.

    Args:
        folder: Folder of the worklist, of any format.
        backup: Folder to create, for its owner only.

    Returns:
        What was copied.

    Raises:
        ScreeningError: If there is no worklist, the backup exists or lies in the worklist, or a purge runs.
    """
    database = WorklistDatabase(folder, any_format=True)
    _refuse_place(folder, backup)
    with maintenance_lock(folder), atomic_folder(backup) as partial:
        private_folder(partial)
        private_file(partial / DATABASE)
        with database.open() as source, closing(sqlite3.connect(partial / DATABASE)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, which needs no other
        files = {DATABASE: _hash(partial / DATABASE)}
        for path in sorted(folder.rglob("*")):
            place = path.relative_to(folder)
            if _is_kept(path, place):
                try:
                    files[place.as_posix()] = _copy(path, partial / place)
                except FileNotFoundError:  # a temporary file that went away
                    (partial / place).unlink(missing_ok=True)
        made = datetime.now(timezone.utc).isoformat(timespec="seconds")
        manifest = Manifest(version=__version__, made=made, files=files)
        private_file(partial / MANIFEST)
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def restore_worklist(backup: Path, folder: Path) -> Manifest:
    """Copy a backup to a new worklist, whole or not at all, after a check of all files.

    Args:
        backup: Folder of the backup.
        folder: Folder of the worklist to create; rows name images relative to it, and X-rays by their own paths.

    Returns:
        What was copied.

    Raises:
        ScreeningError: If the backup is incomplete, or the folder exists.
        DatasetError: If files are missing or differ from what was backed up; names all of them.
    """
    manifest = _read_manifest(backup)
    _refuse_place(backup, folder)
    offenders: dict[str, list[Path]] = {}
    with atomic_folder(folder) as partial:
        private_folder(partial)
        for name, known in manifest.files.items():
            if problem := _restore_file(backup / name, partial / name, known):
                offenders.setdefault(problem, []).append(backup / name)
        if offenders:
            raise DatasetError(
                f"{backup}: {sum(map(len, offenders.values()))} of {len(manifest.files)} files that are damaged",
                "the files that were backed up",
                "take another backup; nothing was restored",
                offenders,
            )
    return manifest


def _restore_file(source: Path, target: Path, known: _File) -> str:
    """Copy a file, and return what is wrong with it; nothing where it is as it was."""
    try:
        return "" if _copy(source, target) == known else "changed"
    except OSError as error:
        return error.strerror or "not readable"


def _read_manifest(backup: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate(json.loads((backup / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ScreeningError(
            f"no complete backup in {backup}: {error}",
            f"a folder with {MANIFEST}, as `anomalib-cxr backup` writes it",
            "choose another folder",
        ) from error
    outside = [
        name for name in manifest.files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    ]
    if outside or DATABASE not in manifest.files:
        raise ScreeningError(
            f"{backup / MANIFEST}: {', '.join(outside) or f'no {DATABASE}'}",
            "paths in the folder of the backup",
            "choose another backup",
        )
    return manifest


def _refuse_place(source: Path, target: Path) -> None:
    inside = target.resolve().is_relative_to(source.resolve())
    if inside or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise ScreeningError(
            f"{target}: {f'in {source}' if inside else 'exists'}", "a new folder elsewhere", "choose another folder"
        )


def _is_kept(path: Path, place: Path) -> bool:
    """Return whether a file is a part of the worklist; not temporary files, locks, and the files of the database."""
    if place.name.startswith(DATABASE) and place.name.removeprefix(DATABASE) in {"", *_OF_SQLITE}:
        return False
    is_temporary = place.name.startswith((".unfinished", ".tmp")) or place.suffix == ".lock"
    return path.is_file() and not path.is_symlink() and not is_temporary


def _copy(source: Path, target: Path) -> _File:
    """Copy a file for its owner only, and return its hash; a file that is appended to under a lock, under this lock."""
    lock = source.with_name(f".{source.name}.lock")
    private_folder(target.parent)
    private_file(target)
    try:
        with FileLock(lock, timeout=_WAIT, mode=0o600) if lock.exists() else nullcontext():
            shutil.copyfile(source, target)
    except Timeout as error:
        raise ScreeningError(f"{source}: locked by another program", "a file that can be read", "try again") from error
    return _hash(target)


def _hash(file: Path) -> _File:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return _File(size, digest.hexdigest())
