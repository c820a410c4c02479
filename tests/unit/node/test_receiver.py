"""Reception over the network, by the tools of DCMTK where they are installed, and by pynetdicom."""

from __future__ import annotations

import io
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

import pytest
import trustme
from pydicom import dcmread
from pydicom.uid import CTImageStorage, JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.node.receiver import ReceiverSettings
from anomalib_cxr.node.spool import read_identity

from ...servers import dcmtk, needs_dcmtk

TITLE = "ANOMALIB_CXR"


def run(*words):
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


@pytest.fixture
def associate():
    """Open associations as a sender; they end with the test."""
    opened = []

    def make(receiver, dataset=None, title="SENDER", called=TITLE, **words):
        entity = AE(title)
        entity.add_requested_context("1.2.840.10008.1.1")
        if dataset is not None:
            entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", receiver.port, ae_title=called, **words)
        opened.append(association)
        return association

    yield make
    for association in opened:
        if association.is_established:
            association.release()


def wait_until(seen):
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def send(association, dataset):
    return association.send_c_store(dataset)


@needs_dcmtk
class TestByDcmtk:
    def test_echo(self, receiving):
        assert run(dcmtk("echoscu"), "-aec", TITLE, "127.0.0.1", receiving().port).returncode == 0

    def test_an_unknown_title_is_called(self, receiving, caplog):
        answer = run(dcmtk("echoscu"), "-aec", "OTHER", "127.0.0.1", receiving().port)
        assert answer.returncode != 0
        assert "Called AE Title Not Recognized" in answer.stderr
        assert "it calls 'OTHER'" in caplog.text

    def test_a_title_that_is_not_allowed_calls(self, receiving, caplog):
        answer = run(
            dcmtk("echoscu"), "-aet", "STRANGER", "-aec", TITLE, "127.0.0.1", receiving(allowed_ae=("XRAY1",)).port
        )
        assert "Calling AE Title Not Recognized" in answer.stderr
        assert "STRANGER at 127.0.0.1: a calling AE title that is not allowed" in caplog.text

    def test_store(self, receiving, xray_files):
        receiver = receiving(allowed_ae=("XRAY1",))
        words = ["-aet", "XRAY1", "-aec", TITLE, "127.0.0.1", receiver.port, *xray_files]
        answer = run(dcmtk("storescu"), *words)
        assert answer.returncode == 0, answer.stderr
        assert len(receiver.stored) == 2
        sent = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in xray_files}
        kept = {dcmread(each.path).SOPInstanceUID: dcmread(each.path).PixelData for each in receiver.stored}
        assert kept == sent
        assert run(dcmtk("storescu"), *words).returncode == 0
        assert len(receiver.stored) == 2  # received twice, stored once

    def test_own_certificate(self, receiving, xray_files, tmp_path):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "node")
        sender = authority.issue_cert("sender.example")
        sender.private_key_pem.write_to_path(tmp_path / "key")
        sender.cert_chain_pems[0].write_to_path(tmp_path / "cert")
        receiver = receiving(tls_certificate=tmp_path / "node", tls_ca=tmp_path / "ca.pem")
        tls = ["+tls", tmp_path / "key", tmp_path / "cert", "+cf", tmp_path / "ca.pem", "-aec", TITLE]
        answer = run(dcmtk("storescu"), *tls, "127.0.0.1", receiver.port, xray_files[0])
        assert answer.returncode == 0, answer.stderr
        assert len(receiver.stored) == 1


class TestCertificates:
    @pytest.fixture
    def authorities(self, tmp_path):
        """Certificates of this node and of its authority, and another authority."""
        known, other = trustme.CA(), trustme.CA()
        known.cert_pem.write_to_path(tmp_path / "ca.pem")
        known.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "node")
        return known, other

    def client(self, authority, issuer=None):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if issuer is not None:
            issuer.issue_cert("sender.example").configure_cert(context)
        return context

    def test_a_sender_with_the_wrong_certificate(self, receiving, associate, authorities, tmp_path, caplog):
        known, other = authorities
        receiver = receiving(tls_certificate=tmp_path / "node", tls_ca=tmp_path / "ca.pem")
        assert not associate(receiver, tls_args=(self.client(known, other), "127.0.0.1")).is_established
        assert associate(receiver, tls_args=(self.client(known, known), "127.0.0.1")).is_established
        assert "A connection from 127.0.0.1 failed" in caplog.text

    def test_a_sender_without_tls(self, receiving, associate, authorities, tmp_path):
        receiver = receiving(tls_certificate=tmp_path / "node")
        assert not associate(receiver).is_established
        assert associate(receiver, tls_args=(self.client(authorities[0]), "127.0.0.1")).is_established

    def test_a_silent_connection_holds_up_nobody(self, receiving, associate, authorities, tmp_path, monkeypatch):
        """Though it may be silent for longer than others wait for their association."""
        monkeypatch.setattr("anomalib_cxr.node.limits.HANDSHAKE_SECONDS", 600)
        receiver = receiving(tls_certificate=tmp_path / "node")
        with socket.create_connection(("127.0.0.1", receiver.port)):
            assert associate(receiver, tls_args=(self.client(authorities[0]), "127.0.0.1")).is_established

    def test_files_that_are_none(self, receiving, tmp_path):
        (tmp_path / "note").write_text("no certificate")
        with pytest.raises(ScreeningError, match="belong together, PEM"):
            receiving(tls_certificate=tmp_path / "note")


class TestStatus:
    def test_success_comes_after_the_file(self, receiving, associate, xray):
        receiver, dataset = receiving(), xray()
        association = associate(receiver, dataset)
        assert send(association, dataset).Status == 0
        assert len(receiver.stored) == 1
        assert receiver.stored[0].path.is_file()

    def test_a_full_disk(self, receiving, associate, xray, spool, monkeypatch, caplog):
        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("anomalib_cxr.node.spool._write", fail)
        receiver, dataset = receiving(), xray(PatientName="SECRET^NAME")
        answer = send(associate(receiver, dataset), dataset)
        assert answer.Status == 0xA700
        assert answer.ErrorComment == "cannot be written: No space left on device"
        assert list(spool.objects()) == receiver.stored == []
        assert "status A700, cannot be written: No space left on device" in caplog.text
        assert "SECRET" not in caplog.text

    def test_uids_that_differ(self, receiving, associate, xray, monkeypatch):
        receiver, dataset = receiving(), xray()
        monkeypatch.setattr(
            "anomalib_cxr.node.receiver.read_identity", lambda encoded: read_identity(encoded)._replace(sop_uid="1.2")
        )
        assert send(associate(receiver, dataset), dataset).Status == 0xA900
        assert receiver.stored == []

    def test_an_object_without_a_readable_header(self, receiving, associate, xray, monkeypatch):
        receiver, dataset = receiving(), xray()
        monkeypatch.setattr("pynetdicom.association.encode", lambda *_: b"\x08\x00\x05\x00CS\xff\x00damaged")
        assert send(associate(receiver, dataset), dataset).Status == 0xC000
        assert receiver.stored == []

    def test_a_huge_object(self, receiving, associate, xray):
        receiver, small = receiving(max_bytes=100_000), xray()
        large = xray()
        large.PixelData = bytes(300_000)
        association = associate(receiver, small)
        answer = send(association, large)
        assert (answer.Status, answer.ErrorComment) == (0xA700, "object larger than 100000 bytes")
        assert send(association, small).Status == 0  # the association goes on
        assert len(receiver.stored) == 1

    def test_one_without_end(self, receiving, associate, xray):
        receiver, large = receiving(max_bytes=100_000), xray()
        large.PixelData = bytes(3_000_000)
        association = associate(receiver, large)
        assert "Status" not in send(association, large)
        wait_until(lambda: association.is_aborted)
        assert receiver.stored == []


class TestContexts:
    def test_other_objects_are_not_negotiated(self, receiving):
        entity = AE("SENDER")
        entity.add_requested_context(CTImageStorage)
        association = entity.associate("127.0.0.1", receiving().port, ae_title=TITLE)
        assert not association.is_established or [each.result for each in association.rejected_contexts] == [3]
        association.abort()

    def test_compressions_that_the_reader_decodes(self, receiving, xray):
        entity = AE("SENDER")
        entity.add_requested_context(xray().SOPClassUID, [JPEG2000Lossless])
        association = entity.associate("127.0.0.1", receiving().port, ae_title=TITLE)
        assert association.accepted_contexts[0].transfer_syntax == [JPEG2000Lossless]
        association.release()


class TestFloods:
    def test_too_many_associations_are_rejected_and_others_go_on(self, receiving, associate, xray, caplog):
        receiver, dataset = receiving(associations=2), xray()
        first, second = (associate(receiver, dataset) for _ in range(2))
        third = associate(receiver, dataset)
        assert third.is_rejected
        assert "too many associations at the same time" in caplog.text
        assert send(first, dataset).Status == send(second, dataset).Status == 0
        first.release()
        wait_until(lambda: len(receiver._server.active_associations) < 2)
        assert associate(receiver, dataset).is_established

    def test_connections_beyond_are_closed(self, receiving, caplog):
        receiver = receiving(associations=1)
        held = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(40)]
        try:
            held[-1].settimeout(20)
            with suppress(ConnectionResetError):
                assert held[-1].recv(1) == b""
            assert "too many at the same time" in caplog.text
            assert len(receiver._server.active_associations) <= 17
        finally:
            for connection in held:
                connection.close()

    def test_an_address_that_is_not_allowed(self, receiving, associate, caplog):
        assert not associate(receiving(allowed_addresses=("10.0.0.0/8",))).is_established
        assert "127.0.0.1: an address that is not allowed" in caplog.text
        assert associate(receiving(allowed_addresses=("10.0.0.0/8", "127.0.0.1"))).is_established

    def test_eight_senders(self, receiving, associate, xray):
        receiver = receiving()
        datasets = [xray() for _ in range(40)]
        for number, dataset in enumerate(datasets):
            dataset.StudyInstanceUID = datasets[number % 5].StudyInstanceUID

        def send_some(start):
            association = associate(receiver, datasets[0], title=f"SENDER{start}")
            return [send(association, dataset).Status for dataset in datasets[start::8]]

        with ThreadPoolExecutor(8) as pool:
            statuses = [status for part in pool.map(send_some, range(8)) for status in part]
        assert statuses == [0] * 40
        kept = {dcmread(each.path).SOPInstanceUID for each in receiver.stored}
        assert kept == {dataset.SOPInstanceUID for dataset in datasets}


def test_a_sender_that_breaks_off(receiving, associate, xray, encode, spool):
    receiver, dataset = receiving(), xray()
    association = associate(receiver, dataset)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    request.DataSet = io.BytesIO(encode(dataset) * 100)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    parts = message.encode_msg(association.accepted_contexts[0].context_id, 16382)
    for part in islice(parts, 4):
        association.dul.socket.send(P_DATA_TF(part).encode())
    association.dul.socket.close()
    wait_until(lambda: not receiver._server.active_associations)
    assert receiver.stored == []
    assert [path for path in spool.folder.rglob("*") if path.is_file()] == []
    whole = xray()
    assert send(associate(receiver, whole), whole).Status == 0


def test_markup_in_a_name_stays_in_the_file(receiving, associate, xray, caplog):
    name = "<script>alert(1)</script>^\u00e4"
    receiver, dataset = receiving(), xray(PatientName=name, SpecificCharacterSet="ISO_IR 192")
    caplog.set_level("INFO", logger="anomalib_cxr")
    assert send(associate(receiver, dataset), dataset).Status == 0
    assert dcmread(receiver.stored[0].path).PatientName == name
    assert "script" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"host": "0.0.0.0"}, "without --allowed_ae"),  # noqa: S104
        ({"ae_title": "x" * 17}, "AE title"),
        ({"allowed_ae": ("A\\B",)}, "AE title"),
        ({"allowed_addresses": ("10.0.0.300",)}, "--allowed_addresses"),
        ({"tls_ca": "ca.pem"}, "without --certificate"),
    ],
)
def test_settings_that_are_refused(settings, found):
    with pytest.raises(ScreeningError, match=found):
        ReceiverSettings(**settings).check()


def test_a_port_that_is_taken(receiving):
    with pytest.raises(ScreeningError, match="a free port"):
        receiving(port=receiving().port)
