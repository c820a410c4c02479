"""Certificate and key by which the server encrypts its connections."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from anomalib_cxr.errors import ScreeningError


@dataclass(frozen=True)
class TlsFiles:
    """Files that prove to browsers which server they talk to.

    Args:
        certificate: Certificate in PEM, followed by those of its issuers.
        key: Private key of the certificate in PEM, without a password.
    """

    certificate: Path
    key: Path

    @classmethod
    def given(cls, certificate: Path | None, key: Path | None) -> TlsFiles | None:
        """Return the files of two options; None where neither is given.

        Args:
            certificate: Certificate, or None.
            key: Private key, or None.

        Raises:
            ScreeningError: If only one is given.
        """
        if certificate is not None and key is not None:
            return cls(certificate, key)
        if certificate is None and key is None:
            return None
        missing = "--key" if key is None else "--certificate"
        raise ScreeningError(f"no {missing}", "a certificate and its key, or neither", f"add {missing}")

    def check(self) -> None:
        """Load both files, before anything is served.

        Raises:
            ScreeningError: If they cannot be read or do not belong together.
        """
        unreadable = [
            str(file) for file in (self.certificate, self.key) if not file.is_file() or not os.access(file, os.R_OK)
        ]
        if unreadable:
            raise self._unusable(f"no file that can be read: {', '.join(unreadable)}")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, _no_password)
        except (ssl.SSLError, ValueError) as error:
            raise self._unusable(f"{self.certificate} and {self.key}: {error}") from error

    def _unusable(self, found: str) -> ScreeningError:
        return ScreeningError(
            found,
            "a certificate in PEM and its own private key, without a password, readable to this user",
            "get both from who runs your network, or make a pair as docs/howto/accounts.md has it",
        )


def _no_password() -> str:
    """Stand for the prompt of OpenSSL, which would wait for a person at a server's terminal."""
    raise ValueError("the key has a password")
