"""X-rays as they come over the network, and a receiver of them on a free port of this machine."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.node.quiet import QuietQueue
from anomalib_cxr.node.receiver import Receiver, ReceiverSettings
from anomalib_cxr.node.spool import Spool


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    return QuietQueue(10, clock)


@pytest.fixture(scope="session")
def xray_files(tmp_path_factory):
    """Two DICOM files of phantoms."""
    root = write_phantoms(tmp_path_factory.mktemp("sent") / "set", n_normal=2, n_sick=0, size=32)
    return sorted(write_phantom_dicom(root).rglob("IM*"))


@pytest.fixture(scope="session")
def xray(xray_files):
    """Make a dataset of an X-ray, of a new study by default."""

    def make(**values):
        dataset = dcmread(xray_files[0])
        values = {"StudyInstanceUID": generate_uid(), "SOPInstanceUID": generate_uid(), **values}
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        return dataset

    return make


@pytest.fixture(scope="session")
def encode():
    """Encode a dataset as a DICOM file."""

    def run(dataset):
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()

    return run


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "received")


@pytest.fixture
def receiving(spool):
    """Start receivers, which end with the test; each has a list `stored` of what it stored."""
    started = []

    def start(**settings):
        stored = []
        receiver = Receiver(ReceiverSettings(**{"port": 0, **settings}), spool, stored.append)
        receiver.stored = stored
        receiver.start()
        started.append(receiver)
        return receiver

    yield start
    for receiver in started:
        receiver.close()
