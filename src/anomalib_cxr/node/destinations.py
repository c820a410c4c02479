"""Destinations of results: an archive by C-STORE or by STOW-RS, or a folder."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.utils.files import atomic_path

from .ae_title import is_ae_title
from .certificates import SYSTEM_CERTIFICATES, Certificates, client_tls
from .dicomweb import SECONDS, RejectedError, UnreachableError, as_server_error, connect

_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_WARNINGS = range(0xB000, 0xC000)
Send = Callable[[Sequence[Path]], None]
"""Function that sends DICOM files, all or with an error."""


@dataclass(frozen=True)
class Destination(ABC):
    """Destination of results.

    Args:
        name: Name, by which what is queued for it is known after a restart, also if its address has changed.
        address: Its address.
    """

    name: str
    address: str

    @abstractmethod
    @contextmanager
    def session(self) -> Iterator[Send]:
        """Connect.

        Yields:
            Function that sends files. It raises `UnreachableError` or `RejectedError`.

        Raises:
            UnreachableError: If there is no connection.
        """
        yield lambda _: None


class FolderDestination(Destination):
    """Folder, with a subfolder for each study."""

    @contextmanager
    def session(self) -> Iterator[Send]:
        """Return the function that copies files.

        Yields:
            The function.
        """
        yield self._copy

    def _copy(self, files: Sequence[Path]) -> None:
        try:
            for file in files:
                study = dcmread(file, specific_tags=["StudyInstanceUID"]).StudyInstanceUID
                path = Path(self.address) / study / file.name
                with atomic_path(path, private=True, durable=True) as unfinished:
                    unfinished.write_bytes(file.read_bytes())
        except OSError as error:
            raise UnreachableError(f"{self.address}: {error.strerror or error}") from error


@dataclass(frozen=True)
class ArchiveDestination(Destination):
    """Archive that takes objects by C-STORE, `dicom://AE_TITLE@HOST:PORT`, or `dicoms://` for TLS.

    Args:
        ae_title: AE title of this node.
        tls: TLS context; None for no TLS.
    """

    ae_title: str = ""
    tls: ssl.SSLContext | None = None

    @contextmanager
    def session(self) -> Iterator[Send]:
        """Open an association.

        Yields:
            Function that sends files by it.

        Raises:
            UnreachableError: If the archive does not answer, or rejects the association.
        """
        from .result_objects import STORAGE_CLASSES  # noqa: PLC0415  # highdicom

        parts = urlsplit(self.address)
        entity = ApplicationEntity(self.ae_title)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = SECONDS
        for storage_class in STORAGE_CLASSES:
            entity.add_requested_context(storage_class, _SYNTAXES)
        association = entity.associate(
            parts.hostname or "",
            parts.port or 0,
            ae_title=parts.username or "",
            tls_args=None if self.tls is None else (self.tls, parts.hostname or ""),
        )
        if not association.is_established:
            silent = "does not answer" if self.tls is None else "does not answer, or a certificate is not trusted"
            reason = "rejects the association" if association.is_rejected else silent
            raise UnreachableError(f"{self.address} {reason}")
        try:
            yield lambda files: self._send(association, files)
        finally:
            if association.is_established:
                association.release()

    def _send(self, association: Association, files: Sequence[Path]) -> None:
        for file in files:
            dataset = dcmread(file)
            if not association.is_established:
                raise UnreachableError(f"{self.address} ended the association")
            try:
                status = association.send_c_store(dataset).get("Status")
            except ValueError as error:  # its storage class was not accepted
                raise RejectedError(f"{self.address} does not take {dataset.SOPClassUID.name}") from error
            if status is None or status in _OUT_OF_RESOURCES:
                raise UnreachableError(f"{self.address}: {'no answer' if status is None else f'status {status:04X}'}")
            if status and status not in _WARNINGS:
                raise RejectedError(f"{self.address}: status {status:04X} for {dataset.SOPClassUID.name}")


@dataclass(frozen=True)
class WebDestination(Destination):
    """Archive that takes objects by STOW-RS, `http://HOST/...` or `https://HOST/...`.

    Args:
        certificates: Files by which an HTTPS connection is made.
    """

    certificates: Certificates = SYSTEM_CERTIFICATES

    @contextmanager
    def session(self) -> Iterator[Send]:
        """Make a client; there is no connection yet.

        Yields:
            Function that sends files by it.
        """
        client = connect(self.address, self.certificates)
        yield lambda files: self._send(client, files)

    def _send(self, client: DICOMwebClient, files: Sequence[Path]) -> None:
        with as_server_error(self.address):
            answer = client.store_instances([dcmread(file) for file in files])
        failed = answer.get("FailedSOPSequence") or []
        if failed:
            reasons = sorted({f"{item.get('FailureReason', 0):04X}" for item in failed})
            raise RejectedError(f"{self.address}: {len(failed)} objects not stored, reason {', '.join(reasons)}")


class Connection(NamedTuple):
    """Facts of this node by which it connects to destinations."""

    ae_title: str
    """Its AE title."""
    certificates: Certificates = SYSTEM_CERTIFICATES
    """Files by which connections over TLS are made."""


def read_destinations(texts: Sequence[str], connection: Connection) -> tuple[Destination, ...]:
    """Read destinations, each with a name of its own.

    Args:
        texts: Destinations, as for :func:`read_destination`.
        connection: Facts of this node.

    Returns:
        The destinations.

    Raises:
        ScreeningError: If an address is none, or two have one name, or a fact of this node is wrong.
    """
    if not is_ae_title(connection.ae_title):
        raise ScreeningError(
            f"AE title {connection.ae_title!r}", "1 to 16 characters of ASCII without a backslash", "correct --ae_title"
        )
    destinations = tuple(read_destination(text, connection) for text in texts)
    names = [destination.name for destination in destinations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ScreeningError(f"--send with {', '.join(twice)} twice", "a name for each destination", "rename one")
    return destinations


def read_destination(text: str, connection: Connection) -> Destination:
    """Read a destination.

    Args:
        text: `NAME=ADDRESS`, or an address alone, which is its name, too: `dicom://AE_TITLE@HOST:PORT`, `dicoms://...`
            with TLS, `http://` or `https://` of a DICOMweb service, or a folder.
        connection: Facts of this node.

    Returns:
        The destination.

    Raises:
        ScreeningError: If the address is none of these, or a certificate cannot be read.

    Example:
        >>> node = Connection("NODE")
        >>> read_destination("PACS=dicom://ORTHANC@127.0.0.1:4242", node).name
        'PACS'
        >>> [type(read_destination(text, node)).__name__ for text in ("/results", "http://127.0.0.1:8042/dicom-web")]
        ['FolderDestination', 'WebDestination']
    """
    first, _, rest = text.partition("=")
    name, address = (first, rest) if rest and first.isidentifier() else (text, text)
    if "://" not in address:
        if not address:
            raise _unknown(text)
        return FolderDestination(name, str(Path(address).resolve()))
    try:
        parts = urlsplit(address)
        host, port, user = parts.hostname, parts.port, parts.username
    except ValueError as error:  # a port that is no number
        raise _unknown(text) from error
    tls = client_tls(connection.certificates) if parts.scheme in {"dicoms", "https"} else None
    if parts.scheme in {"http", "https"} and host and not user:
        return WebDestination(name, address.rstrip("/"), connection.certificates)
    if parts.scheme in {"dicom", "dicoms"} and host and port and user and is_ae_title(user):
        return ArchiveDestination(name, address, connection.ae_title, tls)
    raise _unknown(text)


def _unknown(text: str) -> ScreeningError:
    return ScreeningError(
        f"--send {text}",
        "a folder, dicom://AE_TITLE@HOST:PORT, or the http:// of a DICOMweb service, with NAME= before it or without; "
        "a password is in the file .netrc",
        "correct it",
    )
