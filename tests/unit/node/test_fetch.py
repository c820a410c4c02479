"""X-rays of an archive by DICOMweb: a real Orthanc, and servers that fail."""

from __future__ import annotations

import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import trustme
from pydicom import dcmread
from pynetdicom import AE

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.node.archive_url import archive_url
from anomalib_cxr.node.certificates import Certificates
from anomalib_cxr.node.destinations import Connection, read_destination
from anomalib_cxr.node.fetch import ArchiveQuery, _pages, fetch, fetch_archives

from ...servers import free_port, needs_dicomweb, orthanc, tls_front


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An Orthanc, empty at first."""
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture
def archived(archive, xray):
    """Put X-rays into the archive; return them."""

    def put(**values):
        dataset = xray(**values)
        entity = AE("SENDER")
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", archive.port, ae_title="ORTHANC")
        assert association.send_c_store(dataset).Status == 0
        association.release()
        return dataset

    return put


@needs_dicomweb
class TestOrthanc:
    def test_by_dates_and_modality(self, archive, archived, tmp_path):
        wanted = [archived(StudyDate=f"2026010{day}") for day in (1, 2)]
        archived(StudyDate="20260109")
        archived(StudyDate="20260102", Modality="CT")
        found = fetch(ArchiveQuery(archive.dicomweb, "20260101-20260103"), tmp_path / "received")
        assert found.left_out == {}
        fetched = {dcmread(file).SOPInstanceUID: dcmread(file) for file in found.files}
        assert set(fetched) == {each.SOPInstanceUID for each in wanted}
        for each in wanted:
            assert fetched[each.SOPInstanceUID].PixelData == each.PixelData

    def test_what_was_fetched_is_not_fetched_again(self, archive, archived, tmp_path, monkeypatch):
        archived(StudyDate="20250301")
        query = ArchiveQuery(archive.dicomweb, "20250301")
        first = fetch(query, tmp_path / "received")
        monkeypatch.setattr("dicomweb_client.DICOMwebClient.retrieve_instance", None)
        assert fetch(query, tmp_path / "received") == first
        assert len(first.files) == 1

    def test_a_server_that_leaves_out_some(self, tmp_path, xray_files):
        """Orthanc's limit cuts off what is behind it, whatever the offset."""
        with orthanc(tmp_path / "limited", LimitFindInstances=2, LimitFindResults=2) as limited:
            entity = AE("SENDER")
            dataset = dcmread(xray_files[0])
            entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
            association = entity.associate("127.0.0.1", limited.port, ae_title="ORTHANC")
            for number in range(5):
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
                assert association.send_c_store(dataset).Status == 0
            association.release()
            with pytest.raises(ScreeningError, match="3 of 5 objects of a series, as by a limit"):
                fetch(ArchiveQuery(limited.dicomweb), tmp_path / "received")

    def test_nothing_of_that_day(self, archive, tmp_path):
        with pytest.raises(ScreeningError, match="no series of CR, DX 19000101"):
            fetch(ArchiveQuery(archive.dicomweb, "19000101"), tmp_path / "received")

    def test_an_object_that_cannot_be_fetched_is_told(self, archive, archived, tmp_path, monkeypatch):
        gone, kept = (archived(StudyDate="20240505") for _ in range(2))
        from dicomweb_client import DICOMwebClient  # noqa: PLC0415

        retrieve = DICOMwebClient.retrieve_instance

        def fail(client, study, series, instance, **words):
            number = "1.2.3" if instance == gone.SOPInstanceUID else instance
            return retrieve(client, study, series, number, **words)

        monkeypatch.setattr(DICOMwebClient, "retrieve_instance", fail)
        found = fetch_archives([archive.dicomweb], tmp_path / "out", "20240505")
        assert [dcmread(file).SOPInstanceUID for file in found.files] == [kept.SOPInstanceUID]
        ((reason, paths),) = found.left_out.items()
        assert "not fetched" in reason
        assert "HTTP status" in reason
        assert [path.name for path in paths] == [gone.SOPInstanceUID]


@needs_dicomweb
def test_an_archive_over_tls(archive, tmp_path, xray, encode):
    """STOW, QIDO and WADO; a server of an unknown authority is not asked."""
    known, unknown = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(tmp_path / "known.pem")
    unknown.cert_pem.write_to_path(tmp_path / "unknown.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    known.issue_cert("127.0.0.1").configure_cert(context)
    (tmp_path / "xray.dcm").write_bytes(encode(sent := xray(StudyDate="20230405")))
    with tls_front(context, int(archive.url.rpartition(":")[2])) as port:
        url = archive_url(f"dicomwebs://127.0.0.1:{port}/dicom-web")
        trusted = Certificates(tmp_path / "known.pem")
        with read_destination(url, Connection("NODE", trusted)).session() as send:
            send([tmp_path / "xray.dcm"])
        (file,) = fetch(ArchiveQuery(url, "20230405", certificates=trusted), tmp_path / "received").files
        assert dcmread(file).PixelData == sent.PixelData
        wrong = Certificates(tmp_path / "unknown.pem")
        with pytest.raises(ScreeningError, match="certificates is not trusted"):
            fetch(ArchiveQuery(url, "20230405", certificates=wrong), tmp_path / "received")


class Failing(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(401)

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize("heeded", [True, False])
def test_pages_of_a_server(heeded):
    """Also of one that ignores the offset."""
    answers = [{"00080018": {"vr": "UI", "Value": [f"1.{number}"]}} for number in range(5)]

    def search(offset):
        start = offset if heeded else 0
        return answers[start : start + 2] if heeded else answers

    assert list(_pages(search, "00080018")) == answers


def test_a_server_that_refuses(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        with pytest.raises(ScreeningError, match="HTTP status 401"):
            fetch(ArchiveQuery(f"http://127.0.0.1:{server.server_port}"), tmp_path)
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_does_not_answer(tmp_path):
    with pytest.raises(ScreeningError, match="does not answer"):
        fetch(ArchiveQuery(f"http://127.0.0.1:{free_port()}"), tmp_path)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"dates": "yesterday"}, "--dates yesterday"),
        ({"modalities": ("dx&x=1",)}, "--modality"),
        ({"modalities": ()}, ""),
    ],
)
def test_a_selection_that_is_none(tmp_path, facts, found):
    with pytest.raises(ScreeningError, match=found or "--modality"):
        fetch(ArchiveQuery("http://127.0.0.1:1", **facts), tmp_path)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("dicomweb:/host:80/dicom-web/", "http://host:80/dicom-web"),  # as a path has it
        ("dicomwebs://host", "https://host"),
        ("/archive/dicomweb", None),
        ("http://host", None),
    ],
)
def test_archives_among_inputs(text, url):
    assert archive_url(text) == url
