"""Reception of X-rays over the network: verification and storage as a DICOM service provider (PS3.4 A and B)."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from threading import Thread
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from anomalib_cxr.data.reading.dicom_codecs import decodable_syntaxes
from anomalib_cxr.data.reading.dicom_text import printable
from anomalib_cxr.data.reading.subject import STORAGE_CLASSES
from anomalib_cxr.errors import RadiographError, ScreeningError

from .ae_title import is_ae_title
from .certificates import as_certificate_error
from .limits import BoundedServer
from .spool import Spool, StoredObject, read_identity

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SUCCESS, NO_RESOURCES, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
"""Status codes of the storage service, PS3.4 B.2.3."""
_SECONDS = 10  # for the request of an association, which follows a connection at once
_PDU = 2**17  # bytes of a part of a message, the most that DCMTK sends; the default of 16 KiB is slow in Python
_COMMENT = 64  # characters of Error Comment (0000,0902)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReceiverSettings:
    """Settings of the reception.

    Args:
        ae_title: AE title, up to 16 characters.
        host: Address to listen on.
        port: Port to listen on; 0 for any free port.
        allowed_ae: AE titles that may call; none for all.
        allowed_addresses: Addresses or networks, such as `10.1.0.0/16`, whose hosts may connect; none for all.
        associations: Greatest number of associations at the same time.
        max_bytes: Greatest number of bytes of an object.
        tls_certificate: Certificate chain, PEM; None for no TLS.
        tls_key: Its private key, PEM; None where the certificate's file has it.
        tls_ca: Certificates of authorities, PEM, by which senders must identify; None for any sender.
    """

    ae_title: str = "ANOMALIB_CXR"
    host: str = "127.0.0.1"
    port: int = 11112
    allowed_ae: tuple[str, ...] = ()
    allowed_addresses: tuple[str, ...] = ()
    associations: int = 16
    max_bytes: int = 200 * 1024**2
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None

    def check(self) -> None:
        """Refuse settings that contradict each other, or would let anyone send.

        Raises:
            ScreeningError: If a setting is wrong.
        """
        titles = [title for title in (self.ae_title, *self.allowed_ae) if not is_ae_title(title)]
        if titles:
            raise ScreeningError(
                f"AE title {', '.join(map(repr, titles))}",
                "1 to 16 characters of ASCII without a backslash",
                "correct --ae_title or --allowed_ae",
            )
        _networks(self.allowed_addresses)
        if self.tls_certificate is None and (self.tls_key or self.tls_ca):
            raise ScreeningError("--key or --ca without --certificate", "the certificate of this node", "add it")
        if self.host not in LOOPBACK and not (self.allowed_ae or self.allowed_addresses or self.tls_ca):
            raise ScreeningError(
                f"host = {self.host!r} without --allowed_ae, --allowed_addresses or --ca",
                "at least one of them where others can send",
                "name the senders, or leave out --host, so that only this machine reaches the node",
            )


def _networks(addresses: Sequence[str]) -> list[Any]:
    try:
        return [ip_network(address, strict=False) for address in addresses]
    except ValueError as error:
        raise ScreeningError(
            f"--allowed_addresses: {error}", "addresses or networks, such as 10.1.0.0/16", "correct it"
        ) from error


class Receiver:
    """DICOM service provider that stores X-rays in a spool.

    Args:
        settings: Settings.
        spool: Folder of received objects.
        on_stored: Function that is called, in a thread, with each new object, after it is on disk.

    Raises:
        ScreeningError: If a setting is wrong, a certificate cannot be read, or the address is taken.
    """

    def __init__(self, settings: ReceiverSettings, spool: Spool, on_stored: Callable[[StoredObject], None]) -> None:
        settings.check()
        self.settings, self._spool, self._on_stored = settings, spool, on_stored
        _config.LOG_HANDLER_LEVEL = "none"  # each part of each message would be formatted for a log that nobody reads
        self._ae = _application_entity(settings)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REJECTED, _log_rejected),
            (evt.EVT_ABORTED, _log_aborted),
        ]
        try:
            self._server: Any = self._ae.make_server(
                (settings.host, settings.port),
                ssl_context=_tls(settings),
                evt_handlers=handlers,
                server_class=BoundedServer,
                max_bytes=settings.max_bytes,
                addresses=_networks(settings.allowed_addresses),
            )
        except (OSError, OverflowError) as error:
            raise ScreeningError(
                f"{settings.host}, port {settings.port}: {error}",
                "an address of this machine and a free port",
                "end the other program, or choose another --port or --host",
            ) from error
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def port(self) -> int:
        """Port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to accept associations."""
        self._ae._servers.append(self._server)  # noqa: SLF001  # as start_server does, for the end of the server
        self._thread.start()

    def close(self) -> None:
        """Abort all associations, and close the port; what was answered with success is on disk."""
        for association in self._server.active_associations:
            if association.is_established:
                association.abort()
            else:  # an abort is no valid event before the request
                association.dul.socket.close()
        if self._thread.is_alive():
            self._server.shutdown()
        else:
            self._server.server_close()

    def _store(self, event: evt.Event) -> Dataset | int:
        """Store an object, and return the status that its sender is answered."""
        encoded = event.encoded_dataset()
        sender = _sender(event)
        request: Any = event.request
        if event.assoc.dimse.answered(len(request.DataSet.getvalue())):  # type: ignore[attr-defined]
            limit = self.settings.max_bytes
            return _failure(NO_RESOURCES, f"object larger than {limit} bytes", sender)
        try:
            identity = read_identity(encoded)
            named = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
            if named != (identity.class_uid, identity.sop_uid):
                return _failure(MISMATCH, "UIDs of the request differ from those of the object", sender)
            stored = self._spool.store(encoded, identity)
        except RadiographError as error:
            return _failure(NOT_UNDERSTOOD, error.reason, sender)
        except OSError as error:
            return _failure(NO_RESOURCES, f"cannot be written: {error.strerror or error}", sender)
        if stored.is_new:
            self._on_stored(stored)
        return SUCCESS


def _application_entity(settings: ReceiverSettings) -> ApplicationEntity:
    entity = ApplicationEntity(settings.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = [title.strip() for title in settings.allowed_ae]
    entity.maximum_associations = settings.associations
    entity.acse_timeout = _SECONDS
    entity.maximum_pdu_size = _PDU
    entity.add_supported_context(Verification)
    syntaxes = decodable_syntaxes()
    for storage_class in sorted(STORAGE_CLASSES):
        entity.add_supported_context(storage_class, syntaxes)
    return entity


def _tls(settings: ReceiverSettings) -> ssl.SSLContext | None:
    """Return the TLS context of the server; profile of PS3.15 B.12, TLS 1.2 or newer."""
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with as_certificate_error((settings.tls_certificate, settings.tls_key, settings.tls_ca)):
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.tls_ca is not None:
            context.load_verify_locations(settings.tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    return context


def _failure(status: int, reason: str, sender: str) -> Dataset:
    """Log a failure, and return its status with the reason; neither has a value of the object."""
    logger.warning("Refused an object from %s: status %04X, %s", sender, status, reason)
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = printable(reason).encode("ascii", "replace").decode()[:_COMMENT].replace("\\", "/")
    return answer


def _sender(event: evt.Event) -> str:
    requestor = event.assoc.requestor
    return f"{printable(str(requestor.ae_title)).strip() or '?'} at {requestor.address}"


def _log_rejected(event: evt.Event) -> None:
    entity, requestor = event.assoc.ae, event.assoc.requestor
    called = str(getattr(requestor.primitive, "called_ae_title", "")).strip()
    if entity.require_calling_aet and str(requestor.ae_title).strip() not in entity.require_calling_aet:
        reason = "a calling AE title that is not allowed"
    elif called != entity.ae_title.strip():
        reason = f"it calls {printable(called)!r}, and this is {entity.ae_title.strip()!r}"
    else:
        reason = "too many associations at the same time"
    logger.warning("Refused an association from %s: %s", _sender(event), reason)


def _log_aborted(event: evt.Event) -> None:
    logger.warning("An association from %s was aborted; what was answered with success is kept", _sender(event))
