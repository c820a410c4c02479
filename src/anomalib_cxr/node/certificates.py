"""Certificates of this node and of authorities, by which it connects to archives over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from anomalib_cxr.errors import ScreeningError


class Certificates(NamedTuple):
    """Files by which a TLS connection is made; none for the authorities that the system trusts."""

    authorities: Path | None = None
    """Certificates of authorities that the server must be certified by, PEM."""
    own: Path | None = None
    """Certificate of this node, PEM."""
    key: Path | None = None
    """Its private key, PEM; None where the certificate's file has it."""


SYSTEM_CERTIFICATES = Certificates()


def client_tls(certificates: Certificates) -> ssl.SSLContext:
    """Return the TLS context by which this node connects to others; TLS 1.2 or newer, names are checked.

    Args:
        certificates: Files of the connection.

    Raises:
        ScreeningError: If a file cannot be read, or key and certificate do not belong together.
    """
    with as_certificate_error(certificates):
        context = ssl.create_default_context(cafile=certificates.authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificates.own is not None:
            context.load_cert_chain(certificates.own, certificates.key)
        elif certificates.key is not None:
            raise OSError("a key without its certificate")
    return context


@contextmanager
def as_certificate_error(files: Iterable[Path | None]) -> Iterator[None]:
    """Convert the errors of reading certificates.

    Args:
        files: The files, for the message.

    Raises:
        ScreeningError: If a file cannot be read, or key and certificate do not belong together.
    """
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ScreeningError(
            f"{', '.join(str(file) for file in files if file)}: {error}",
            "certificates and a key that belong together, PEM",
            "correct the files",
        ) from error
