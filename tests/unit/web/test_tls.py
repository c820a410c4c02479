"""Encryption by a certificate of one's own."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import urllib.request

import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.web.app import create_app
from anomalib_cxr.web.tls import TlsFiles

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl on this machine")


def make_pair(folder, name, *options):
    files = TlsFiles(folder / f"{name}.pem", folder / f"{name}.key")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    out = ["-out", files.certificate, "-keyout", files.key]
    subprocess.run([OPENSSL, *words, *subject, *out, *(options or ["-nodes"])], check=True, capture_output=True)  # noqa: S603
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def pair(folder):
    return make_pair(folder, "own")


def test_the_page_is_served_encrypted_and_no_other_way(worklist, accounts, pair, listening):
    app = create_app(worklist, accounts=accounts)
    trusted = ssl.create_default_context(cafile=pair.certificate)
    with listening(app, pair) as port:
        with urllib.request.urlopen(f"https://localhost:{port}/login", context=trusted) as answer:
            assert "Password" in answer.read().decode()
            assert "secure" in answer.headers["Set-Cookie"].lower()
        with pytest.raises(OSError):  # noqa: PT011  # whatever a client without TLS says
            urllib.request.urlopen(f"http://localhost:{port}/login", timeout=10)
        old = ssl.create_default_context(cafile=pair.certificate)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):  # noqa: PT011  # of the client's or of the server's OpenSSL
            urllib.request.urlopen(f"https://localhost:{port}/login", context=old, timeout=10)


def test_files_that_cannot_be_used(folder, pair):
    other = make_pair(folder, "other")
    locked = make_pair(folder, "locked", "-passout", "pass:secret")
    (folder / "text").write_text("no certificate")
    for files, found in [
        (TlsFiles(folder / "none.pem", folder / "none.key"), r"none\.pem, .*none\.key"),
        (TlsFiles(pair.certificate, other.key), "(?i)mismatch"),
        (TlsFiles(folder / "text", pair.key), "text"),
        (TlsFiles(pair.certificate, folder), "no file that can be read"),
        (locked, "has a password"),
    ]:
        with pytest.raises(ScreeningError, match=found):
            files.check()


@pytest.mark.parametrize(("given", "missing"), [("--certificate", "--key"), ("--key", "--certificate")])
def test_one_without_the_other(worklist, capsys, given, missing):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--worklist", str(worklist.folder), given, "file"])
    assert ended.value.code == 1
    assert f"no {missing}" in capsys.readouterr().err
