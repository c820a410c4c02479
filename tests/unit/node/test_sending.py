"""Sending of results: retries, restarts and dead letters with a simulated clock, and real archives."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import trustme
from PIL import Image
from pydicom import dcmread
from pynetdicom import AE, evt

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.data.reading.subject import MODALITIES
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.node import sending as module
from anomalib_cxr.node.certificates import Certificates
from anomalib_cxr.node.deliveries import DeliveryStore, State
from anomalib_cxr.node.destinations import (
    Connection,
    Destination,
    FolderDestination,
    WebDestination,
    read_destination,
    read_destinations,
)
from anomalib_cxr.node.dicomweb import RejectedError, UnreachableError
from anomalib_cxr.node.result_objects import STORAGE_CLASSES, write_objects
from anomalib_cxr.node.sending import SendingLoop, send_results
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.fingerprint import fingerprint_of
from anomalib_cxr.screening.worklist.store import Worklist

from ...servers import dcmtk, free_port, needs_dcmtk, needs_dicomweb, needs_orthanc, orthanc

NODE = Connection("NODE")


@pytest.fixture
def worklist(tmp_path, spool, xray, encode):
    """Two scored cases of received X-rays, with heatmaps."""
    worklist = Worklist(tmp_path / "out", create=True)
    (worklist.folder / "heatmaps").mkdir()
    (worklist.folder / "layers").mkdir()
    for number in range(2):
        path = spool.folder / f"{number}.dcm"
        path.write_bytes(encode(xray()))
        content = read_content(path)
        heatmap = f"heatmaps/{number}.png"
        Image.fromarray(np.full((32, 32, 3), 100, np.uint8)).save(worklist.folder / heatmap)
        Image.fromarray(np.eye(16, dtype=np.uint8) * 200).save(worklist.folder / f"layers/{number}-heat.png")
        worklist.add(
            [
                Case(
                    str(path),
                    **fingerprint_of(content)._asdict(),
                    decision=Decision.TO_READ,
                    source="DICOM DX, ACME",
                    score=0.7,
                    content=content.sha256,
                    heatmap=heatmap,
                    layers=f"layers/{number}",
                    model="a" * 64,
                    screened="2026-01-31T10:00:00+00:00",
                )
            ]
        )
    return worklist


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Scripted(Destination):
    """A destination that is up or down, and may reject objects."""

    down, rejects = False, False

    @contextmanager
    def session(self):
        object.__setattr__(self, "tried", getattr(self, "tried", 0) + 1)
        if Scripted.down:
            raise UnreachableError("no answer")
        yield self._send

    def _send(self, files):
        if Scripted.rejects:
            raise RejectedError("status A900")
        object.__setattr__(self, "got", [*getattr(self, "got", []), *files])


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(Scripted, "down", False)
    monkeypatch.setattr(Scripted, "rejects", False)
    return Scripted("PACS", "pacs")


@pytest.fixture
def loop_to(worklist, spool, clock):
    def make(destination):
        return SendingLoop(destination, DeliveryStore(worklist), worklist.folder, spool.folder, clock)

    return make


def add_refused(worklist, spool, dataset, encode, source):
    path = spool.folder / f"{source[:8]}.dcm"
    path.write_bytes(encode(dataset))
    content = read_content(path)
    facts = {**fingerprint_of(content)._asdict(), "content": content.sha256, "source": source, "why": "blurred"}
    worklist.add([Case(str(path), **facts, decision=Decision.REFUSED, screened="2026-01-31T10:00:00+00:00")])


def states(worklist):
    return [delivery.state for delivery in DeliveryStore(worklist).all()]


def test_each_result_is_sent_once(loop_to, scripted, worklist):
    loop = loop_to(scripted)
    assert loop.send_due()
    assert not loop.send_due()
    assert not loop_to(scripted).send_due()  # nor after a restart
    assert len(scripted.got) == 2 * len(STORAGE_CLASSES)
    assert states(worklist) == [State.SENT] * 2


def test_refused_xrays_are_told_and_other_objects_get_no_answer(loop_to, scripted, worklist, spool, xray, encode):
    """Two nodes that send each other what they cannot screen must not go on for ever."""
    for modality in [*sorted(MODALITIES), "OT", "SR"]:
        add_refused(worklist, spool, xray(Modality=modality), encode, f"DICOM {modality}, ACME")
    add_refused(worklist, spool, xray(), encode, "")  # its header cannot be read
    worklist.add([Case("/a.png", 1, 1, Decision.TO_READ, score=0.5, source="picture")])
    assert [case.is_reported for case in worklist.cases()].count(True) == 3 + len(MODALITIES)
    loop_to(scripted).send_due()
    assert states(worklist) == [State.SENT] * (2 + len(MODALITIES))
    told = [dcmread(path) for path in scripted.got[-3 * len(MODALITIES) :]]
    assert [each.Modality for each in told[:3]] == ["OT", "SR", "DOC"]
    assert {each.StudyInstanceUID for each in told} == {
        dcmread(case.file).StudyInstanceUID for case in worklist.cases() if case.is_reported and case.why
    }


def test_a_destination_that_is_down_for_an_hour(loop_to, scripted, worklist, clock, monkeypatch):
    """With a restart in between: nothing is lost, and attempts become rarer."""
    monkeypatch.setattr(Scripted, "down", True)
    loop = loop_to(scripted)
    for second in range(3600):
        clock.now += 1
        loop.send_due()
        if second == 1800:
            loop = loop_to(scripted)
    assert states(worklist) == [State.WAITING] * 2
    assert 5 <= scripted.tried <= 12
    monkeypatch.setattr(Scripted, "down", False)
    clock.now += 900
    loop.send_due()
    assert states(worklist) == [State.SENT] * 2
    assert len({path.name for path in scripted.got}) == len(scripted.got) == 2 * len(STORAGE_CLASSES)


def test_a_destination_that_stays_down(loop_to, scripted, worklist, clock, monkeypatch):
    monkeypatch.setattr(Scripted, "down", True)
    monkeypatch.setattr(module, "UNREACHABLE_ATTEMPTS", 3)
    loop = loop_to(scripted)
    for _ in range(3):
        loop.send_due()
        clock.now += 900
    assert states(worklist) == [State.DEAD] * 2
    monkeypatch.setattr(Scripted, "down", False)
    DeliveryStore(worklist).revive()
    loop.send_due()
    assert states(worklist) == [State.SENT] * 2


def test_a_result_that_is_not_taken_is_a_dead_letter(loop_to, scripted, worklist, clock, monkeypatch, caplog):
    monkeypatch.setattr(Scripted, "rejects", True)
    loop = loop_to(scripted)
    for _ in range(3):
        loop.send_due()
        clock.now += 900
    assert states(worklist) == [State.DEAD] * 2
    assert "1 of them for good: status A900" in caplog.text


@pytest.mark.parametrize("change", ["gone", "replaced"])
def test_an_xray_that_is_no_longer_the_one_that_was_scored(loop_to, scripted, worklist, change):
    case = worklist.case(1)
    if change == "gone":
        case.file.unlink()
    else:
        case.file.write_bytes(b"another")
    loop_to(scripted).send_due()
    first, second = DeliveryStore(worklist).all()
    assert second.state is State.SENT
    assert (first.state, first.attempts) == (State.WAITING, 1)
    assert "another content" in first.error if change == "replaced" else "cannot be opened" in first.error


def test_the_same_case_gives_the_same_files(worklist):
    first = write_objects(worklist.case(1), worklist.folder)
    content = [path.read_bytes() for path in first]
    assert write_objects(worklist.case(1), worklist.folder) == first
    assert [path.read_bytes() for path in first] == content


def test_into_a_folder(loop_to, worklist, tmp_path):
    loop_to(FolderDestination("folder", str(tmp_path / "results"))).send_due()
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(files) == 2 * len(STORAGE_CLASSES)
    studies = {dcmread(worklist.case(number).file).StudyInstanceUID for number in (1, 2)}
    assert {path.parent.name for path in files} == studies


def test_a_folder_that_cannot_be_written(loop_to, worklist, tmp_path):
    (tmp_path / "note").write_text("no folder")
    loop_to(FolderDestination("folder", str(tmp_path / "note"))).send_due()
    assert states(worklist) == [State.WAITING] * 2


@needs_orthanc
def test_into_orthanc(loop_to, worklist, tmp_path):
    with orthanc(tmp_path / "orthanc") as archive:
        loop_to(read_destination(f"PACS={archive.send}", NODE)).send_due()
        assert states(worklist) == [State.SENT] * 2
        assert len(archive.get("instances")) == 2 * len(STORAGE_CLASSES)
        studies = {
            archive.get(f"studies/{each}")["MainDicomTags"]["StudyInstanceUID"] for each in archive.get("studies")
        }
        assert studies == {dcmread(worklist.case(number).file).StudyInstanceUID for number in (1, 2)}


@needs_dicomweb
def test_into_orthanc_by_dicomweb(loop_to, worklist, tmp_path):
    with orthanc(tmp_path / "orthanc") as archive:
        loop_to(read_destination(archive.dicomweb, NODE)).send_due()
        assert states(worklist) == [State.SENT] * 2
        study = dcmread(worklist.case(1).file).StudyInstanceUID
        found = archive.query("instances", StudyInstanceUID=study)
        assert sorted(each["00080016"]["Value"][0] for each in found) == sorted(STORAGE_CLASSES)


class Answering(BaseHTTPRequestHandler):
    """A server that answers with one status and body."""

    status, body = 200, b""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        """Say nothing."""


FAILED = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}'


@pytest.mark.parametrize(
    ("status", "body", "states_after", "reason"),
    [
        (503, b"", [State.WAITING] * 2, "HTTP status 503"),
        (400, b"", [State.DEAD] * 2, "HTTP status 400"),
        (202, FAILED, [State.DEAD] * 2, "1 objects not stored, reason 0110"),
        (429, b"", [State.WAITING] * 2, "HTTP status 429"),
    ],
)
def test_answers_of_a_web_server(loop_to, worklist, clock, monkeypatch, status, body, states_after, reason):
    monkeypatch.setattr(Answering, "status", status)
    monkeypatch.setattr(Answering, "body", body)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        loop = loop_to(WebDestination("web", f"http://127.0.0.1:{server.server_port}"))
        for _ in range(3):
            loop.send_due()
            clock.now += 900
    finally:
        server.shutdown()
        server.server_close()
    assert states(worklist) == states_after
    assert reason in DeliveryStore(worklist).all()[0].error


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A server's TLS context, which asks for a certificate; files of this node, and of another authority."""
    folder, known = tmp_path_factory.mktemp("certificates"), trustme.CA()
    known.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    shutil.copy(folder / "ca.pem", folder / "bundle.pem")
    known.issue_cert("node.example").private_key_and_cert_chain_pem.write_to_path(folder / "node.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    known.issue_cert("127.0.0.1").configure_cert(context)
    known.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context, folder


@contextmanager
def secure_web_server(context):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def secure_archive(context):
    entity = AE("PACS")
    for storage_class in STORAGE_CLASSES:
        entity.add_supported_context(storage_class)
    handlers = [(evt.EVT_C_STORE, lambda _: 0x0000)]
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    try:
        yield f"dicoms://PACS@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@pytest.mark.parametrize(("start", "reason"), [(secure_web_server, "no TLS"), (secure_archive, "is not trusted")])
def test_over_tls(loop_to, worklist, clock, certified, monkeypatch, start, reason):
    """Only to a server of a known authority, whatever others trust, and with the certificate that it asks for."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certified[1] / "bundle.pem"))
    monkeypatch.setattr(Answering, "status", 200)
    monkeypatch.setattr(Answering, "body", b"{}")
    context, folder = certified
    with start(context) as address:
        loop_to(read_destination(f"PACS={address}", Connection("NODE", Certificates(folder / "ca.pem")))).send_due()
        assert states(worklist) == [State.WAITING] * 2
        clock.now += 900
        wrong = Connection("NODE", Certificates(folder / "other.pem", folder / "node.pem"))
        loop_to(read_destination(f"PACS={address}", wrong)).send_due()
        assert states(worklist) == [State.WAITING] * 2
        assert reason in DeliveryStore(worklist).all()[0].error
        clock.now += 900
        right = Connection("NODE", Certificates(folder / "ca.pem", folder / "node.pem"))
        loop_to(read_destination(f"PACS={address}", right)).send_due()
    assert states(worklist) == [State.SENT] * 2


def test_files_that_are_no_certificates(tmp_path):
    (tmp_path / "note.pem").write_text("no certificate")
    for wrong in (
        Certificates(tmp_path / "note.pem"),
        Certificates(own=tmp_path / "missing"),
        Certificates(key=tmp_path / "note.pem"),
    ):
        with pytest.raises(ScreeningError, match=r"(note\.pem|missing): .*\n.*belong together, PEM"):
            read_destination("dicoms://A@127.0.0.1:104", Connection("NODE", wrong))


def test_all_results_of_a_worklist_at_once(worklist, scripted, monkeypatch, caplog):
    """What cannot be sent waits for the next time; nothing is sent twice."""
    caplog.set_level("INFO", logger="anomalib_cxr")
    monkeypatch.setattr(Scripted, "down", True)
    send_results([scripted], worklist)
    assert scripted.tried == 1
    assert "case 1 to PACS: waits after 1 attempts: no answer" in caplog.text
    monkeypatch.setattr(Scripted, "down", False)
    DeliveryStore(worklist).failed([1, 2], "no answer", 0.0)  # their time has come
    for _ in range(2):
        send_results([scripted], worklist)
    assert "PACS: 2 sent" in caplog.text
    assert len(scripted.got) == 2 * len(STORAGE_CLASSES)


def test_an_ae_title_that_is_none():
    with pytest.raises(ScreeningError, match="--ae_title"):
        read_destinations(["/a"], Connection("x" * 17))


def test_a_web_server_that_does_not_answer(loop_to, worklist, caplog):
    loop_to(WebDestination("web", f"http://127.0.0.1:{free_port()}")).send_due()
    assert states(worklist) == [State.WAITING] * 2
    assert [record.name for record in caplog.records if record.name == "retrying"] == []


@needs_dcmtk
def test_into_an_archive_that_starts_late_and_takes_implicit_only(loop_to, worklist, tmp_path, clock):
    port = free_port()
    loop = loop_to(read_destination(f"dicom://STORESCP@127.0.0.1:{port}", NODE))
    loop.send_due()
    assert states(worklist) == [State.WAITING] * 2
    (tmp_path / "archive").mkdir()
    process = subprocess.Popen([dcmtk("storescp"), "+xi", "-od", tmp_path / "archive", str(port)])  # noqa: S603
    try:
        deadline = time.monotonic() + 60
        while set(states(worklist)) != {State.SENT} and time.monotonic() < deadline:
            time.sleep(0.05)
            clock.now += 900
            loop.send_due()
    finally:
        process.kill()
        process.wait()
    received = [dcmread(path) for path in (tmp_path / "archive").iterdir()]
    assert len({each.SOPInstanceUID for each in received}) == 2 * len(STORAGE_CLASSES)


@pytest.mark.parametrize(
    "text",
    ["", "dicom://127.0.0.1:104", "dicom://A@host", "ftp://A@host:1", "dicom://A@host:x", "http://user:pass@host"],
)
def test_addresses_that_are_none(text):
    with pytest.raises(ScreeningError, match="dicom://AE_TITLE@HOST:PORT"):
        read_destination(text, NODE)


def test_two_destinations_of_one_name():
    with pytest.raises(ScreeningError, match="PACS twice"):
        read_destinations(["PACS=/a", "PACS=/b"], NODE)
