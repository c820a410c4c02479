"""Connection to a DICOMweb server (PS3.18), and what its errors mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from dicomweb_client import DICOMwebClient

from .certificates import SYSTEM_CERTIFICATES, Certificates

logging.getLogger("retrying").setLevel(logging.CRITICAL)  # of the client: a traceback for each failed request
SECONDS = 30.0
"""Seconds to wait for a connection or an answer."""
_LATER = frozenset({408, 429})  # of the statuses that blame the request, those that pass


class _Session(requests.Session):
    """Session whose own authorities are the only ones: requests prefers those of REQUESTS_CA_BUNDLE otherwise."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)


class UnreachableError(Exception):
    """A server cannot answer at the moment; the next attempt may succeed."""


class RejectedError(Exception):
    """A server does not take an object, or refuses a request."""


def connect(url: str, certificates: Certificates = SYSTEM_CERTIFICATES) -> DICOMwebClient:
    """Return a client of a server, which does not try again by itself.

    Name and password of the server belong into the file `.netrc`, and are never part of the address.

    Args:
        url: Address of the service, such as `https://pacs.example/dicom-web`.
        certificates: Files by which an HTTPS connection is made.

    Returns:
        The client.
    """
    session = _Session()
    if certificates.authorities is not None:
        session.verify = str(certificates.authorities)
    if certificates.own is not None:
        key = certificates.key
        session.cert = str(certificates.own) if key is None else (str(certificates.own), str(key))
    client = DICOMwebClient(url, session=session, timeout=SECONDS)
    client.set_http_retry_params(retry=False)
    return client


@contextmanager
def as_server_error(url: str) -> Iterator[None]:
    """Convert errors of HTTP to those of this module.

    Args:
        url: Address of the service, for the message.

    Raises:
        UnreachableError: If the server does not answer, or answers that it cannot now.
        RejectedError: If it refuses the request.
    """
    try:
        yield
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        kind = RejectedError if 400 <= status < 500 and status not in _LATER else UnreachableError  # noqa: PLR2004
        raise kind(f"{url}: HTTP status {status}") from error
    except requests.exceptions.SSLError as error:
        raise UnreachableError(
            f"{url}: no TLS connection; one of the two certificates is not trusted, or is of another host"
        ) from error
    except (requests.RequestException, OSError) as error:
        raise UnreachableError(f"{url} does not answer: {type(error).__name__}") from error
