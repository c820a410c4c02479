"""Servers of the hospital, started on free ports of this machine where they are installed."""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest
import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
needs_orthanc = pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
needs_dicomweb = pytest.mark.skipif(ORTHANC is None or not PLUGIN.exists(), reason="Orthanc has no DICOMweb plug-in")


def dcmtk(program):
    """Return the path of a program of DCMTK; pynetdicom brings others of the same names into an environment."""
    return shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")


needs_dcmtk = pytest.mark.skipif(dcmtk("storescu") is None, reason="DCMTK is not installed")
needs_dicom3tools = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Orthanc(NamedTuple):
    """A running Orthanc."""

    port: int
    url: str

    @property
    def send(self):
        """Its address for `--send`."""
        return f"dicom://ORTHANC@127.0.0.1:{self.port}"

    @property
    def dicomweb(self):
        return f"{self.url}/dicom-web"

    def get(self, path, **parameters):
        answer = requests.get(f"{self.url}/{path}", params=parameters, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def query(self, level, **matches):
        """Search by QIDO-RS."""
        return self.get(f"dicom-web/{level}", **matches)


@contextmanager
def orthanc(folder, **settings):
    """Run Orthanc until the end of the block."""
    port, http = settings.pop("DicomPort", None) or free_port(), free_port()
    configuration = {
        "Name": "Tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)  # noqa: S603
    started = Orthanc(port, f"http://127.0.0.1:{http}")
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                started.get("system")
                break
            except requests.ConnectionError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((folder / "orthanc.log").read_text())
                time.sleep(0.1)
        yield started
    finally:
        process.terminate()
        process.wait()


@contextmanager
def tls_front(context, port):
    """Serve a port of this machine over TLS until the end of the block, as a proxy does; lend the new port.

    Orthanc itself of Debian 12 ends by a segmentation fault as soon as it is asked over TLS.
    """

    class Front(socketserver.BaseRequestHandler):
        def handle(self):
            with (
                suppress(OSError),  # a client that does not trust the certificate
                context.wrap_socket(self.request, server_side=True) as outer,
                socket.create_connection(("127.0.0.1", port)) as inner,
            ):
                Thread(target=_pump, args=(outer, inner), daemon=True).start()
                _pump(inner, outer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Front) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _pump(source, target):
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
