"""Server of DICOM associations that no sender can hold: bounded in connections, addresses, time and memory."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from threading import Lock
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

HANDSHAKE_SECONDS = 10.0
"""Seconds in which a TLS handshake must be complete."""
SPARE_CONNECTIONS = 16
"""Connections beyond the greatest number of associations that are answered with a rejection; more are closed."""
DRAINED = 8
"""Times the greatest size of an object that a sender may go on sending before its association is aborted."""
_ABORT = "Evt19"  # of the upper layer's state machine, PS3.8 9.2: an invalid PDU
Network = IPv4Network | IPv6Network
logger = logging.getLogger(__name__)


class BoundedMessages(DIMSEServiceProvider):
    """Messages of an association that keep no more bytes than an object may have.

    Args:
        assoc: The association.
        limit: Greatest number of bytes of an object, and of all messages that wait for their answer.
    """

    def __init__(self, assoc: Association, limit: int) -> None:
        super().__init__(assoc)
        self._limit = limit
        self._kept = self._dropped = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Process a part of a message; what is beyond the limit is dropped.

        Args:
            primitive: The part.
        """
        parts = list(primitive.presentation_data_value_list)
        size = sum(len(data) - 1 for _, data in parts)
        if self._kept + size > self._limit:
            self._dropped += size
            if self._dropped > DRAINED * self._limit:
                self.dul.event_queue.put(_ABORT)
                return
            # The first byte tells a command from data, and the last part of a message: it is to be answered.
            primitive.presentation_data_value_list = [
                [context, data if data[0] & 1 else data[:1]]  # type: ignore[misc]  # it takes lists only
                for context, data in parts
            ]
        else:
            self._kept += size
        super().receive_primitive(primitive)

    def answered(self, size: int) -> bool:
        """Release the bytes of a message.

        Args:
            size: Number of its bytes.

        Returns:
            True if parts of it were dropped.
        """
        self._kept = max(0, self._kept - size)
        dropped, self._dropped = self._dropped, 0
        return dropped > 0


class _Handler(RequestHandler):
    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dimse = BoundedMessages(association, self.server.max_bytes)  # type: ignore[attr-defined]
        return association


class BoundedServer(ThreadedAssociationServer):
    """Server of associations, for allowed addresses only.

    Args:
        ae: The application entity.
        address: Host and port.
        ae_title: AE title.
        contexts: Presentation contexts.
        ssl_context: TLS; None for none.
        evt_handlers: Handlers of events.
        max_bytes: Greatest number of bytes of an object.
        addresses: Networks whose hosts may connect; none for all.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[str, int],
        ae_title: str,
        contexts: list[Any],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: list[Any] | None = None,
        *,
        max_bytes: int,
        addresses: Sequence[Network] = (),
    ) -> None:
        self.max_bytes, self._addresses = max_bytes, addresses
        self._starting, self._lock = 0, Lock()  # connections whose association has no thread of its own yet
        super().__init__(ae, address, ae_title, contexts, ssl_context, evt_handlers, request_handler=_Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, without TLS yet: a client that is silent must not hold up the others."""
        return self.socket.accept()  # type: ignore[union-attr]

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  # of the base class
        """Return whether a connection is answered at all.

        Args:
            request: The connection.
            client_address: Address of the other side.
        """
        host = client_address[0]
        if self._addresses and not any(ip_address(host.split("%")[0]) in network for network in self._addresses):
            logger.warning("Refused a connection from %s: an address that is not allowed", host)
            return False
        if len(self.active_associations) + self._starting >= self.ae.maximum_associations + SPARE_CONNECTIONS:
            logger.warning("Refused a connection from %s: too many at the same time", host)
            return False
        self._count_starting(1)
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Start an association, in a thread of its own.

        Args:
            request: The connection.
            client_address: Address of the other side.
        """
        try:
            if self.ssl_context is not None:
                request.settimeout(HANDSHAKE_SECONDS)
                request = self.ssl_context.wrap_socket(request, server_side=True)
            request.settimeout(self.ae.network_timeout)
            super().finish_request(request, client_address)
        finally:
            self._count_starting(-1)

    def _count_starting(self, change: int) -> None:
        with self._lock:
            self._starting += change

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # of the base class
        """Log why a connection failed, in one line.

        Args:
            request: The connection.
            client_address: Address of the other side.
        """
        error = sys.exc_info()[1]
        logger.warning("A connection from %s failed: %s", client_address[0], error)
