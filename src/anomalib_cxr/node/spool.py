"""Received DICOM objects on disk: whole, and safe from a power cut, before they count as received.

The folder is the whole state: what lies in it and is not in the worklist is still to be screened.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from pydicom.dataset import Dataset

from anomalib_cxr.data.reading.content import FileContent
from anomalib_cxr.data.reading.dicom_file import as_radiograph_error, load_dicom
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.utils.files import private_file, private_folder, sync

FOLDER, FORMER = "received", "former"
"""Subfolder of the worklist for received objects, and its subfolder for those that another version replaced."""
RESERVE = 200 * 1024**2
"""Bytes on the disk that received objects leave free: for the rows, heatmaps and objects that come of them."""
_UNFINISHED = ".unfinished-"
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
_PATIENT = ("PatientID", "IssuerOfPatientID")
_SAFE = re.compile(r"[0-9.]{1,64}")
_LOCKS = 64
_ABANDONED = 3600  # seconds: another process may be fetching objects into the same folder


class NoSpaceError(OSError):
    """The disk has no space left for a received object."""


class Identity(NamedTuple):
    """Unique identifiers of an object by its own header."""

    class_uid: str
    """SOP Class UID."""
    sop_uid: str
    """SOP Instance UID."""
    study_uid: str
    """Study Instance UID; may be empty."""


class StoredObject(NamedTuple):
    """A received object on disk."""

    study: str
    """Name of the study's folder."""
    path: Path
    is_new: bool
    """False where the same object had been received before."""


def read_identity(encoded: bytes) -> Identity:
    """Read the identifiers of an object, whose header is parsed to its end.

    Args:
        encoded: The object as a DICOM file (PS3.10).

    Returns:
        Its identifiers.

    Raises:
        RadiographError: If the header is damaged, or has no SOP Class UID or SOP Instance UID.
    """
    header = _header(encoded, _IDENTITY)
    identity = Identity(*(str(header.get(keyword) or "").strip("\0 ") for keyword in _IDENTITY))
    if not identity.class_uid or not identity.sop_uid:
        raise RadiographError(
            "received object", "no SOP Class UID or SOP Instance UID", "a DICOM object with both", "send it again"
        )
    return identity


def _header(encoded: bytes, keywords: tuple[str, ...]) -> Dataset:
    path = Path("received object")
    with as_radiograph_error(path, "not readable as DICOM"):
        return load_dicom(FileContent(path, encoded), keywords)


class Spool:
    """Folder of received objects, `<study>/<SOP Instance UID>.dcm`, for its owner only. Threads may share it.

    An object of the same patient and SOP Instance UID replaces the former version, which is kept in `former`; the same
    object again, though encoded otherwise, changes nothing. An object of another patient that has the same UIDs, as
    faulty devices send, is a file of its own.

    Args:
        folder: The folder, absolute.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        private_folder(folder)
        self._locks = [Lock() for _ in range(_LOCKS)]

    def store(self, encoded: bytes, identity: Identity) -> StoredObject:
        """Store an object; when this returns, it is on disk as a whole, also after a power cut.

        Args:
            encoded: The object as a DICOM file (PS3.10).
            identity: Its identifiers.

        Returns:
            Where it is stored.

        Raises:
            RadiographError: If its header cannot be read.
            NoSpaceError: If the disk is full.
            OSError: If it cannot be written; nothing of it is left.
        """
        if shutil.disk_usage(self.folder).free < RESERVE + len(encoded):
            raise NoSpaceError(f"less than {RESERVE + len(encoded)} bytes free")
        study = _name(identity.study_uid) if identity.study_uid else "no-study"
        folder = self.folder / study
        unfinished = self.folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
        try:
            _write(unfinished, encoded)
            with self._locks[hash(identity.sop_uid) % _LOCKS]:
                if not folder.is_dir():
                    private_folder(folder)
                    sync(self.folder)
                path, former = self._slot(folder, _name(identity.sop_uid), encoded)
                if former is not None and _is_same(former, encoded):
                    return StoredObject(study, path, is_new=False)
                if former is not None:
                    self._keep(path, former)
                os.replace(unfinished, path)  # noqa: PTH105  # documented as atomic
                sync(folder)
        finally:
            unfinished.unlink(missing_ok=True)
        return StoredObject(study, path, is_new=True)

    def find(self, study_uid: str, sop_uid: str) -> Path | None:
        """Return the file of an object; None where it was not received.

        Args:
            study_uid: Study Instance UID.
            sop_uid: SOP Instance UID.
        """
        path = self.folder / _name(study_uid) / f"{_name(sop_uid)}.dcm"
        return path if path.is_file() else None

    def objects(self) -> Iterator[StoredObject]:
        """Iterate over all stored objects.

        Yields:
            Objects, study by study.
        """
        for folder in sorted(self.folder.iterdir()):
            if folder.is_dir() and folder.name != FORMER:
                for path in sorted(folder.glob("*.dcm")):
                    yield StoredObject(folder.name, path, is_new=False)

    def remove_unfinished(self) -> None:
        """Remove what a killed process was writing for which no sender was told success, an hour after it."""
        for path in self.folder.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _ABANDONED:
                    path.unlink()

    def _slot(self, folder: Path, name: str, encoded: bytes) -> tuple[Path, bytes | None]:
        """Return the path of an object, and the bytes of the version of the same patient that is there."""
        number = 1
        while True:
            path = folder / (f"{name}.dcm" if number == 1 else f"{name}-{number}.dcm")
            if not path.exists():
                return path, None
            former = path.read_bytes()
            if former == encoded or _patient(former) == _patient(encoded):
                return path, former
            number += 1

    def _keep(self, path: Path, former: bytes) -> None:
        """Keep the version that is about to be replaced."""
        folder = self.folder / FORMER
        private_folder(folder)
        kept = folder / f"{path.stem}-{hashlib.sha256(former).hexdigest()[:16]}.dcm"
        if not kept.exists():
            os.link(path, kept)
            sync(folder)


def _name(uid: str) -> str:
    """Return a file name for an identifier; one of other characters than those of a UID is hashed."""
    return uid if _SAFE.fullmatch(uid) and set(uid) != {"."} else hashlib.sha256(uid.encode()).hexdigest()[:32]


def _write(path: Path, encoded: bytes) -> None:
    private_file(path)
    path.write_bytes(encoded)
    sync(path)


def _patient(encoded: bytes) -> tuple[str, ...]:
    header = _header(encoded, _PATIENT)
    return tuple(str(header.get(keyword) or "").strip() for keyword in _PATIENT)


def _is_same(former: bytes, encoded: bytes) -> bool:
    """Return whether two files hold the same object, though lengths or the order of bytes may be coded otherwise."""
    if former == encoded:
        return True
    path = Path("received object")
    try:
        with as_radiograph_error(path, "not readable as DICOM"):
            first, second = (_values(load_dicom(FileContent(path, each))) for each in (former, encoded))
            return first == second
    except RadiographError:  # an attribute behind those of the identity is damaged
        return False


def _values(dataset: Dataset) -> list[tuple[int, Any]]:
    """Return tags and values; value representations are not told by every encoding."""
    return [
        (element.tag, list(map(_values, element.value)) if element.VR == "SQ" else element.value) for element in dataset
    ]
