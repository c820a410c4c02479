"""Send X-rays to a DICOM node by many senders at once, and end it at random moments; count what is lost or doubled.

    python benchmarks/node_faults.py MODEL --objects 1000 --senders 8 --kills 50

The objects are copies of one DICOM phantom under identifiers of their own, five in a study. First all are sent by as
many processes as there are senders, and screened. Then they are sent to another node, which is ended by SIGKILL at
random moments and started again; each sender goes on with what was not answered with success, and every tenth
association is broken off. What was answered with success must be a row, once. Exits with 1 if one is lost or doubled.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from jsonargparse import auto_cli
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.screening.worklist.store import Worklist

_IN_A_STUDY = 5
_BROKEN_OFF = 10  # one association in so many
_COMMAND = (sys.executable, "-c", "from anomalib_cxr.cli import main; main()")


def draw_objects(folder: Path, count: int, size: int) -> list[Path]:
    """Write copies of a phantom under identifiers of their own.

    Args:
        folder: Folder to write into.
        count: Number of copies.
        size: Side of the phantom in pixels.

    Returns:
        The files.
    """
    root = write_phantoms(folder / "set", n_normal=1, n_sick=0, size=size)
    dataset = dcmread(next(write_phantom_dicom(root).rglob("IM*")))
    files = []
    for number in range(count):
        if number % _IN_A_STUDY == 0:
            dataset.StudyInstanceUID = generate_uid()
            dataset.PatientID = f"P{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(folder / f"{number:05}.dcm")
        dataset.save_as(files[-1])
    return files


@contextmanager
def node(model: Path, worklist: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a node until the end of the block.

    Args:
        model: Folder of the calibrated model.
        worklist: Folder of the worklist.

    Yields:
        The process, and its port.
    """
    log = worklist.with_suffix(".log")
    words = ["listen", "--model", model, "--worklist", worklist, "--port", 0, "--quiet", 1, "--any_source"]
    with log.open("ab") as said:
        start = said.tell()
        process = subprocess.Popen([*_COMMAND, *map(str, words)], stdout=said, stderr=said)  # noqa: S603
        try:
            while not (found := re.search(rb"Listening: .* port (\d+)", log.read_bytes()[start:])):
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.05)
            yield process, int(found[1])
        finally:
            process.kill()
            process.wait()


def send(port: int, files: Sequence[Path], *, break_off: bool = False) -> list[Path]:
    """Send files by one association, until it ends.

    Args:
        port: Port of the node.
        files: The files.
        break_off: Close the connection in the middle of the second object.

    Returns:
        Those that were answered with success.
    """
    datasets = [dcmread(file) for file in files]
    entity = AE("SENDER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    entity.add_requested_context(datasets[0].SOPClassUID, datasets[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="ANOMALIB_CXR")
    answered = []
    for number, (file, dataset) in enumerate(zip(files, datasets, strict=True)):
        if not association.is_established:
            break
        if break_off and number == 1:
            association.dul.socket.close()
            break
        if _store(association, dataset) != 0:
            break
        answered.append(file)
    if association.is_established:
        association.release()
    return answered


def send_by_dcmtk(port: int, files: Sequence[Path]) -> list[Path]:
    """Send files as :func:`send` does, by DCMTK's `storescu`; all of them or an error."""
    words = ["storescu", "-aec", "ANOMALIB_CXR", "--max-pdu", "131072", "127.0.0.1", str(port), *map(str, files)]
    done = subprocess.run(words, capture_output=True, check=False)  # noqa: S603
    if done.returncode:  # it does not tell which ones it has sent
        raise RuntimeError(done.stderr.decode())
    return list(files)


def _store(association: object, dataset: Dataset) -> int | None:
    try:
        status = association.send_c_store(dataset).get("Status")  # type: ignore[attr-defined]
    except (RuntimeError, ValueError, OSError):  # the association ended meanwhile
        return None
    return None if status is None else int(status)


def _check(worklist: Path, answered: Sequence[Path]) -> str:
    rows = Counter(case.sop_uid for case in Worklist(worklist).cases())
    wanted = {str(dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for file in answered}
    lost, doubled = len(wanted - set(rows)), sum(count > 1 for count in rows.values())
    found = f"{len(wanted)} answered with success, {len(rows)} rows, {lost} lost, {doubled} doubled"
    if lost or doubled:
        raise SystemExit(found)
    return found


def _wait(worklist: Path, count: int, process: subprocess.Popen[bytes], seconds: float = 3600) -> None:
    deadline = time.monotonic() + seconds
    while Worklist(worklist).count() < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


def measure_throughput(model: Path, folder: Path, files: Sequence[Path], senders: int, *, dcmtk: bool) -> None:
    """Send all files at once, and print how long reception and screening took.

    Args:
        model: Folder of the calibrated model.
        folder: Folder for the worklist.
        files: The files.
        senders: Number of processes that send.
        dcmtk: Send by DCMTK.
    """
    worklist = folder / "throughput"
    with node(model, worklist) as (process, port), get_context("spawn").Pool(senders) as pool:
        pool.starmap(time.sleep, [(0.1,)] * senders)  # they are up
        began = time.monotonic()
        parts = pool.starmap(
            send_by_dcmtk if dcmtk else send, [(port, files[start::senders]) for start in range(senders)]
        )
        received = time.monotonic() - began
        answered = [file for part in parts for file in part]
        _wait(worklist, len(answered), process)
        screened = time.monotonic() - began
    print(f"{len(files)} objects, {senders} senders: {_check(worklist, answered)}")  # noqa: T201
    rates = f"received {len(answered) / received:.1f} a second, and screened {len(answered) / screened:.1f} a second"
    print(rates)  # noqa: T201


def measure_kills(model: Path, folder: Path, files: Sequence[Path], senders: int, kills: int) -> None:
    """End a node again and again while it receives and screens, and print what is lost or doubled.

    Args:
        model: Folder of the calibrated model.
        folder: Folder for the worklist.
        files: The files, sent in rounds.
        senders: Number of threads that send.
        kills: Number of ends.
    """
    worklist, drawn = folder / "kills", random.Random(0)  # noqa: S311
    answered: list[Path] = []
    share = max(1, len(files) // (kills + 1))
    for number in range(kills):
        wanted = [file for file in files[: share * (number + 1)] if file not in set(answered)]
        with node(model, worklist) as (process, port), ThreadPoolExecutor(senders) as pool:
            parts = [wanted[start::senders] for start in range(senders) if wanted[start::senders]]
            jobs = [pool.submit(send, port, part, break_off=drawn.random() < 1 / _BROKEN_OFF) for part in parts]
            time.sleep(drawn.uniform(0.05, 3.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
            answered += [file for job in jobs for file in job.result()]
    with node(model, worklist) as (process, port):
        answered += send(port, [file for file in files if file not in set(answered)])
        _wait(worklist, len(files), process)
    received = list((worklist / "received").rglob("*.dcm"))
    print(f"{kills} kills, {senders} senders: {_check(worklist, answered)}; {len(received)} files")  # noqa: T201


def main(
    model: Path, objects: int = 1000, senders: int = 8, kills: int = 50, size: int = 512, dcmtk: bool = False
) -> None:
    """Measure a node.

    Args:
        model: Folder of a calibrated model.
        objects: Number of objects.
        senders: Number of senders at the same time.
        kills: Number of times that the node is ended.
        size: Side of the phantom in pixels.
        dcmtk: Send by DCMTK's `storescu` while the node is not ended, which leaves the node more of the machine.
    """
    folder = Path(tempfile.mkdtemp(prefix="node-faults-"))
    try:
        files = draw_objects(folder, objects, size)
        measure_throughput(model, folder, files, senders, dcmtk=dcmtk)
        if kills:
            measure_kills(model, folder, files, senders, kills)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
