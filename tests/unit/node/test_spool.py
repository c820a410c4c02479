"""Received objects on disk: whole, once, and nothing lost."""

from __future__ import annotations

import io
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from anomalib_cxr.errors import RadiographError
from anomalib_cxr.node import spool as module
from anomalib_cxr.node.spool import FORMER, NoSpaceError, Spool, read_identity


@pytest.fixture
def store(spool):
    return lambda encoded: spool.store(encoded, read_identity(encoded))


def files_in(spool):
    return sorted(path for path in spool.folder.rglob("*") if path.is_file())


def test_an_object_is_one_private_file(spool, store, xray, encode):
    dataset = xray()
    encoded = encode(dataset)
    stored = store(encoded)
    assert stored.is_new
    assert stored.study == dataset.StudyInstanceUID
    assert stored.path.read_bytes() == encoded
    assert files_in(spool) == [stored.path]
    assert stored.path.stat().st_mode & 0o777 == 0o600
    assert [(each.study, each.path) for each in spool.objects()] == [(stored.study, stored.path)]


def test_file_and_folder_are_synced_before_it_counts_as_stored(spool, store, xray, encode, monkeypatch):
    steps = []
    replace, fsync = module.os.replace, module.os.fsync
    monkeypatch.setattr(module.os, "fsync", lambda file: (fsync(file), steps.append("sync")))
    monkeypatch.setattr(module.os, "replace", lambda *paths: (replace(*paths), steps.append("rename")))
    store(encode(xray()))
    assert steps == ["sync", "sync", "rename", "sync"]  # the file, the study's new folder, its name in it


class TestReceivedAgain:
    def test_the_same_bytes(self, spool, store, xray, encode):
        encoded = encode(xray())
        first = store(encoded)
        assert not store(encoded).is_new
        assert files_in(spool) == [first.path]

    def test_the_same_object_encoded_otherwise(self, spool, store, xray, encode):
        dataset = xray()
        first = store(encode(dataset))
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        file = io.BytesIO()
        dataset.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=True)
        again = store(file.getvalue())
        assert (again.path, again.is_new) == (first.path, False)
        assert files_in(spool) == [first.path]

    def test_another_version_replaces_the_former_which_is_kept(self, spool, store, xray, encode):
        dataset = xray()
        former = encode(dataset)
        first = store(former)
        dataset.StudyDescription = "corrected"
        second = store(encode(dataset))
        assert (second.path, second.is_new) == (first.path, True)
        assert dcmread(first.path).StudyDescription == "corrected"
        (kept,) = (spool.folder / FORMER).iterdir()
        assert kept.read_bytes() == former
        assert [each.path for each in spool.objects()] == [first.path]

    def test_the_same_uid_of_another_patient_is_another_object(self, spool, store, xray, encode):
        dataset = xray(PatientID="A")
        first = store(encode(dataset))
        dataset.PatientID = "B"
        second = store(encode(dataset))
        assert second.is_new
        assert second.path != first.path
        assert not store(encode(dataset)).is_new
        assert len(files_in(spool)) == 2

    def test_at_the_same_time(self, spool, store, xray, encode):
        encoded = encode(xray())
        with ThreadPoolExecutor(8) as pool:
            stored = list(pool.map(store, [encoded] * 24))
        assert sum(each.is_new for each in stored) == 1
        assert len(files_in(spool)) == 1


class TestRefused:
    @pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
    def test_without_identity(self, xray, encode, keyword):
        dataset = xray()
        dataset.file_meta.MediaStorageSOPInstanceUID, dataset.file_meta.MediaStorageSOPClassUID = "1.2", "1.3"
        dataset[keyword].value = ""
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=False)
        with pytest.raises(RadiographError, match="no SOP Class UID or SOP Instance UID"):
            read_identity(file.getvalue())

    def test_what_is_no_dicom(self):
        with pytest.raises(RadiographError, match="not readable as DICOM"):
            read_identity(b"no such file " * 40)

    def test_a_full_disk(self, spool, store, xray, encode, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=module.RESERVE))
        with pytest.raises(NoSpaceError):
            store(encode(xray()))
        assert files_in(spool) == []

    def test_a_disk_that_fills_while_it_is_written(self, spool, store, xray, encode, monkeypatch):
        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module.os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            store(encode(xray()))
        assert files_in(spool) == []


@pytest.mark.parametrize("uid", ["../../escape", "..", "1.2/3", "<b>1</b>"])
def test_an_identifier_never_leaves_the_folder(spool, xray, encode, uid):
    encoded = encode(xray())
    identity = read_identity(encoded)._replace(sop_uid=uid, study_uid=uid)
    stored = spool.store(encoded, identity)
    assert stored.path.parent.parent == spool.folder
    assert stored.path.is_file()


def test_what_a_killed_process_was_writing_is_removed(spool, store, xray, encode):
    kept = store(encode(xray()))
    for name, age in ((".unfinished-0123", 4000), (".unfinished-4567", 1000)):
        (spool.folder / name).write_bytes(b"half")
        os.utime(spool.folder / name, (time.time() - age,) * 2)
    Spool(spool.folder).remove_unfinished()
    assert files_in(spool) == sorted([kept.path, spool.folder / ".unfinished-4567"])
