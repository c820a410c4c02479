"""`anomalib-cxr listen`: X-rays in by DICOM, rows in the worklist, whatever ends the node."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from functools import reduce

import pytest
from pydicom import dcmread
from pynetdicom import AE

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.node.deliveries import DeliveryStore, State
from anomalib_cxr.node.result_objects import STORAGE_CLASSES
from anomalib_cxr.screening.case import Decision
from anomalib_cxr.screening.worklist.store import Worklist

from ..servers import dcmtk, free_port, needs_dcmtk, needs_dicomweb, orthanc
from .conftest import COMMANDS, REPOSITORY, begin, end

ASKED = ["--sensitivity", 0.6, "--confidence", 0.8, "--prevalence", 0.1, "--force"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory, command, trained, segmenter_path):
    """A folder with DICOM files of phantoms, and a model that is calibrated on them."""
    folder = tmp_path_factory.mktemp("listening")
    drawn = ["--n_normal", 44, "--n_sick", 14, "--size", 64, "--dicom"]
    code, output = command(folder, "anomalib-cxr", "phantom", "archive", *drawn)
    assert code == 0, output
    files = sorted(folder.glob("archive/DICOM/**/IM*"))
    labels = [path.stem[-1] for path in sorted(folder.glob("archive/CXR_png/*.png"))]
    rows = [f"{path},{label}" for path, label in zip(files, labels, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows, ""]))
    words = ["--model", trained.folder, "--table", "labels.csv", "--segmenter", segmenter_path, *ASKED]
    code, output = command(folder, "anomalib-cxr", "calibrate", *words)
    assert code == 0, output
    return folder


@pytest.fixture(scope="module")
def listening(place, trained):
    """Start nodes, which end with the block; their output is in `listen.log` beside the worklist."""

    @contextmanager
    def run(worklist, *words):
        log = worklist.with_suffix(".log")
        model = trained.folder / "weights" / "openvino"
        given = ["--model", model, "--worklist", worklist, "--port", 0, "--quiet", 0.3, *words]
        with log.open("ab") as said:
            start = said.tell()
            process = begin(place, "anomalib-cxr", "listen", *given, stdout=said)
            try:
                listens = lambda: re.search(rb"Listening: .* port (\d+)", log.read_bytes()[start:])  # noqa: E731
                port = wait_for(listens, process, log=log)
                process.port = int(port[1])
                yield process
            finally:
                end(process)
                process.wait()

    return run


def wait_for(seen, process, seconds=240, log=None):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if found := seen():
            return found
        time.sleep(0.05)
    said = log.read_text() if log else ""
    return seen() or pytest.fail(f"ended too early or never got that far: {said}")


def send(port, files, title="SENDER", called="ANOMALIB_CXR"):
    """Send files by one association; return those that were answered with success, until the other side ends."""
    datasets = [dcmread(file) for file in files]
    entity = AE(title)
    entity.add_requested_context(datasets[0].SOPClassUID, datasets[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    answered = []
    for file, dataset in zip(files, datasets, strict=True):
        if not association.is_established or association.send_c_store(dataset).get("Status") != 0:
            break
        answered.append(file)
    association.release()
    return answered


def count(worklist):
    """Return the number of rows; none before the worklist is created."""
    try:
        return Worklist(worklist).count()
    except ScreeningError:
        return 0


def sop_uids(worklist):
    return sorted(case.sop_uid for case in Worklist(worklist).cases())


def uids_of(files):
    return sorted(str(dcmread(file).SOPInstanceUID) for file in files)


@pytest.fixture(scope="module")
def files(place):
    return sorted(place.glob("archive/DICOM/**/IM*"))


def test_rows_as_screen_writes_them(place, listening, files, trained, command, tmp_path):
    model = trained.folder / "weights" / "openvino"
    words = [*files[:6], "--model", model, "--worklist", tmp_path / "by", "--send", tmp_path / "results"]
    code, output = command(place, "anomalib-cxr", "screen", *words)
    assert code == 0, output
    assert f"{tmp_path / 'results'}: 6 sent" in output
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        case.study_uid for case in Worklist(tmp_path / "by").cases()
    }
    lateral = dcmread(files[0])
    lateral.ViewPosition, lateral.SOPInstanceUID, lateral.StudyInstanceUID = "LL", "1.2.3.4", "1.2.3"
    lateral.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    lateral.save_as(tmp_path / "lateral.dcm")
    with listening(tmp_path / "out") as node:
        assert send(node.port, [*files[:6], files[0], tmp_path / "lateral.dcm"])[6:]  # one of them twice
        wait_for(lambda: count(tmp_path / "out") == 7, node)
        node.send_signal(signal.SIGTERM)
        assert node.wait(60) == 0
    expected = {case.sop_uid: case for case in Worklist(tmp_path / "by").cases()}
    rows = {case.sop_uid: case for case in Worklist(tmp_path / "out").cases()}
    refused = rows.pop("1.2.3.4")
    assert refused.decision is Decision.REFUSED
    assert "lateral view" in refused.why
    assert {uid: (case.decision, round(case.score, 5)) for uid, case in rows.items()} == {
        uid: (case.decision, round(case.score, 5)) for uid, case in expected.items()
    }
    for case in rows.values():
        assert (tmp_path / "out" / case.heatmap).is_file()
    assert len((tmp_path / "out" / "worklist.csv").read_text().splitlines()) == 1 + 7


def test_kills_lose_and_double_nothing(listening, files, tmp_path):
    """Killed while it receives, while a study is quiet, and while it screens: what was answered becomes a row, once."""
    waiting = list(files[:24])
    for pause in (0.0, 0.2, 0.6):
        with listening(tmp_path / "out") as node:
            answered = send(node.port, waiting[:6])
            assert answered == waiting[:6]
            time.sleep(pause)
            node.kill()
            node.wait()
        waiting = waiting[6:]
    with listening(tmp_path / "out") as node:
        send(node.port, files[:4])  # again
        wait_for(lambda: count(tmp_path / "out") == 18, node)
    assert sop_uids(tmp_path / "out") == uids_of(files[:18])
    received = [path for path in (tmp_path / "out" / "received").rglob("*") if path.is_file()]
    assert len(received) == 18


def test_a_second_node_on_the_same_worklist(place, listening, trained, command, tmp_path):
    with listening(tmp_path / "out"):
        model = trained.folder / "weights" / "openvino"
        words = ["listen", "--model", model, "--worklist", tmp_path / "out", "--port", 0]
        code, output = command(place, "anomalib-cxr", *words)
    assert code == 1
    assert "another node writes there" in output


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--host", "0.0.0.0"], "without --allowed_ae, --allowed_addresses or --ca"),  # noqa: S104
        (["--associations", 0], "associations >= 1"),
        (["--quiet", "-1"], "quiet >= 0"),
    ],
)
def test_settings_that_are_refused(place, command, trained, words, found, tmp_path):
    model = trained.folder / "weights" / "openvino"
    code, output = command(place, "anomalib-cxr", "listen", "--model", model, "--worklist", tmp_path / "out", *words)
    assert code == 1
    assert found in output
    assert not (tmp_path / "out").exists()


@needs_dicomweb
def test_from_the_modality_to_the_archive(listening, command, files, tmp_path):
    """Results are found again by QIDO under the study of the X-ray, also those that waited for the archive."""
    with orthanc(tmp_path / "archive") as archive:
        pass  # its port is free again
    settings = {"DicomPort": archive.port}
    with listening(tmp_path / "out", "--send", f"PACS={archive.send}") as node:
        assert send(node.port, files[:3]) == files[:3]
        log = tmp_path / "out.log"
        wait_for(lambda: "Not sent to PACS" in log.read_text(), node)
        code, output = command(tmp_path, "anomalib-cxr", "deliveries", tmp_path / "out")
        assert code == 0, output
        assert "does not answer" in output
        node.kill()
        node.wait()
    with orthanc(tmp_path / "archive", **settings) as archive:
        send(archive.port, files[:3], called="ORTHANC")
        with listening(tmp_path / "out", "--send", f"PACS={archive.send}") as node:
            queue = DeliveryStore(Worklist(tmp_path / "out"))
            wait_for(lambda: queue.counts() == {("PACS", State.SENT): 3}, node)
        for file in files[:3]:
            header = dcmread(file)
            found = archive.query("instances", StudyInstanceUID=header.StudyInstanceUID)
            classes = sorted(each["00080016"]["Value"][0] for each in found)
            assert classes == sorted([header.SOPClassUID, *STORAGE_CLASSES])
    code, output = command(tmp_path, "anomalib-cxr", "deliveries", tmp_path / "out")
    assert output == "PACS: 3 sent\n"


def test_a_watched_folder(place, files, trained, tmp_path):
    """Files that are there, that come, and that are copied slowly; a restart screens what came meanwhile."""
    (tmp_path / "inbox").mkdir()
    copied = [tmp_path / "inbox" / f"{number}.dcm" for number in range(4)]

    def copy(number):
        copied[number].write_bytes(files[number].read_bytes())

    model = trained.folder / "weights" / "openvino"
    words = ["screen", "--watch", tmp_path / "inbox", "--quiet", 1, "--model", model, "--worklist", tmp_path / "out"]
    words += ["--send", f"FOLDER={tmp_path / 'results'}"]
    copy(0)
    node = begin(place, "anomalib-cxr", *words)
    try:
        wait_for(lambda: count(tmp_path / "out") == 1, node)
        copied[1].write_bytes(files[1].read_bytes()[:1000])
        copy(2)
        copy(1)
        wait_for(lambda: count(tmp_path / "out") == 3, node)
    finally:
        end(node)
        node.wait()
    copy(3)
    node = begin(place, "anomalib-cxr", *words)
    try:
        wait_for(lambda: count(tmp_path / "out") == 4, node)
        queue = DeliveryStore(Worklist(tmp_path / "out"))
        wait_for(lambda: queue.counts() == {("FOLDER", State.SENT): 4}, node)
        node.send_signal(signal.SIGINT)
        output, _ = node.communicate(timeout=60)
    finally:
        end(node)
    assert node.returncode == 0, output
    assert "Watching:" in output
    assert sop_uids(tmp_path / "out") == uids_of(files[:4])
    assert len((tmp_path / "out" / "worklist.csv").read_text().splitlines()) == 5


N_SENT = 8
PAGE = REPOSITORY / "docs" / "howto" / "orthanc.md"


@needs_dicomweb
@needs_dcmtk
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_each_command_of_the_page_with_orthanc(place, trained, tmp_path):
    """As the page has them, but for the ports, the model and the number of X-rays."""
    for patient in sorted((place / "archive" / "DICOM").glob("PT*"))[:N_SENT]:
        shutil.copytree(patient, tmp_path / "archive" / "DICOM" / patient.name)
    model = trained.folder / "weights" / "openvino"
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    with orthanc(tmp_path / "orthanc") as archive:
        node_port = free_port()
        changes = {
            "results/LungAtlas/ChestPhantom/latest/weights/openvino": str(model),
            "results/archive": str(tmp_path / "archive"),
            "4242": str(archive.port),
            "8042": archive.url.rpartition(":")[2],
            "11112": str(node_port),
        }

        def run(line):
            for old, new in changes.items():
                line = line.replace(old, new)
            done = begin(tmp_path, shutil.which("bash"), "-ec", f"PATH={COMMANDS}:$PATH\n{line}")
            output, _ = done.communicate(timeout=300)
            assert done.returncode == 0, output
            return output

        first = shlex.split(commands[0])
        assert first[:2] == ["anomalib-cxr", "listen"]
        words = [reduce(lambda word, change: word.replace(*change), changes.items(), word) for word in first[1:]]
        node = begin(tmp_path, first[0], *words, "--port", node_port, "--quiet", 1)
        try:
            wait_for(lambda: run_quietly([dcmtk("echoscu"), "-aec", "ANOMALIB_CXR", "127.0.0.1", str(node_port)]), node)
            for line in commands[1:4]:
                run(line)
            wait_for(lambda: count(tmp_path / "results" / "node") == N_SENT, node)
            queue = DeliveryStore(Worklist(tmp_path / "results" / "node"))
            wait_for(lambda: queue.counts() == {("PACS", State.SENT): N_SENT}, node)
        finally:
            end(node)
            node.communicate()
        assert run(commands[4]) == f"PACS: {N_SENT} sent\n"
        reports = json.loads(run(commands[5]))
        cases = Worklist(tmp_path / "results" / "node").cases()
        assert {each["0020000D"]["Value"][0] for each in reports} == {case.study_uid for case in cases}
        run(commands[6])
        assert len(commands) == 7
    fetched = {case.sop_uid: case.score for case in Worklist(tmp_path / "results" / "fetched").cases()}
    received = {case.sop_uid: case.score for case in Worklist(tmp_path / "results" / "node").cases()}
    assert len(fetched) == N_SENT
    assert fetched == pytest.approx(received, abs=1e-5)


def run_quietly(command):
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
