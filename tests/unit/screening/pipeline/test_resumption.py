"""Which files are screened, and which again: changed ones, and those whose row other options decided."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import replace

import pydicom
import pytest

from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings, screen

pytestmark = pytest.mark.slow


@pytest.fixture
def files(images, dicoms, tmp_path):
    """Two pictures and a DICOM file, a source that the model was not calibrated on."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate((images[0], images[60], dicoms[0])):
        shutil.copy(path, folder / f"{number}{path.suffix or '.dcm'}")
    return sorted(folder.iterdir())


@pytest.fixture
def settings(calibrated, tmp_path):
    return ScreenerSettings(calibrated, tmp_path / "out")


@pytest.fixture
def run(settings, files):
    """Screen all files with other options; returns the worklist, and the files that were screened this time."""

    def run(calibration=None, **options):
        screener = Screener(replace(settings, **options))
        screener.calibration = calibration or screener.calibration
        seen = []
        engine = lambda given: seen.extend(given) or screener.cases(given)  # noqa: E731
        return screen(files, screener.settings, screener.calibration, engine), seen

    return run


def case_of_file(worklist, file):
    return worklist.case(worklist.number_of(file))


class TestContent:
    def test_a_change_that_keeps_size_and_time(self, run, files):
        worklist, seen = run()
        assert seen == files
        content, status = bytearray(files[0].read_bytes()), files[0].stat()
        content[-20] ^= 1
        files[0].write_bytes(content)
        os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (files[0].stat().st_size, files[0].stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert run()[1] == [files[0]]
        assert len(worklist.earlier(worklist.number_of(files[0]))) == 1

    def test_the_same_content_with_another_time_is_not_screened_again(self, run, files):
        worklist, _ = run()
        before = [case_of_file(worklist, file) for file in files]
        os.utime(files[1], ns=(1, 1))
        copied = files[0].read_bytes()
        files[0].unlink()
        files[0].write_bytes(copied)
        assert run()[1] == []
        after = [case_of_file(worklist, file) for file in files]
        assert (after[1].modified, after[1].size) == (1, before[1].size)
        assert [case.screened for case in after] == [case.screened for case in before]

    def test_a_file_that_could_not_be_read_is_tried_again(self, run, files):
        content = files[0].read_bytes()
        files[0].write_bytes(b"")
        worklist, _ = run()
        assert "empty file" in case_of_file(worklist, files[0]).why
        assert run()[1] == [files[0]]
        files[0].write_bytes(content)
        run()
        assert case_of_file(worklist, files[0]).why == ""


class TestAnySource:
    def test_decides_on_rows_of_other_sources_alone(self, run, files):
        worklist, _ = run()
        assert case_of_file(worklist, files[2]).why.startswith("never validated on this kind of source")
        worklist.give_verdict(
            worklist.number_of(files[2]), Verdict.UNSURE, "Ada", content=case_of_file(worklist, files[2]).content
        )
        assert run(any_source=True)[1] == [files[2]]
        assert case_of_file(worklist, files[2]).score is not None
        assert [record.reader for record in worklist.verdicts(worklist.number_of(files[2]))] == [
            "Ada"
        ]  # the same X-ray
        assert run(any_source=True)[1] == []
        assert run()[1] == [files[2]]
        assert case_of_file(worklist, files[2]).decision is Decision.REFUSED

    def test_never_switches_the_input_check_off(self, run, files):
        dataset = pydicom.dcmread(files[2])
        dataset.PixelData = dataset.pixel_array[::-1, ::-1].tobytes()
        dataset.save_as(files[2])
        worklist, _ = run(any_source=True)
        assert "upside down" in case_of_file(worklist, files[2]).why


class TestHospital:
    def test_another_threshold_decides_again(self, run, files, calibration):
        (rule,) = calibration.thresholds.values()
        rules = {name: rule.model_copy(update={"threshold": value}) for name, value in {"a": 0.0, "b": 1.0}.items()}
        by_hospital = calibration.model_copy(update={"grouping": "hospital", "thresholds": rules})
        worklist, _ = run(by_hospital, hospital="a")
        scored = [file for file in files if case_of_file(worklist, file).score is not None]
        assert scored
        assert {case_of_file(worklist, file).decision for file in scored} == {Decision.TO_READ}
        assert run(by_hospital, hospital="b")[1] == scored
        assert {case_of_file(worklist, file).threshold for file in scored} == {1.0}
        assert run(by_hospital, hospital="b")[1] == []


class TestNames:
    SECRET = b"PHANTOM_0000_0"

    def kept(self, worklist):
        """Parts of the worklist whose content has the patient's ID, which is no part of a path here."""
        return {path.name for path in worklist.folder.iterdir() if path.is_file() and self.SECRET in path.read_bytes()}

    def test_are_kept_only_where_they_are_asked_for(self, run, files):
        assert self.SECRET in files[2].read_bytes()
        worklist, _ = run(any_source=True)
        assert self.kept(worklist) == set()
        assert run(any_source=True, names=True)[1] == [files[2]]
        assert self.kept(worklist) == {"worklist.sqlite", "worklist.csv", "worklist.json"}
        assert case_of_file(worklist, files[2]).patient_id == self.SECRET.decode()
        assert run(any_source=True, names=True)[1] == []
        assert run(any_source=True)[1] == []
        assert self.kept(worklist) == set()
        assert run(any_source=True, names=True)[1] == [files[2]]

    @pytest.mark.skipif(os.name != "posix", reason="modes of files")
    def test_nothing_is_for_others_to_read(self, run):
        worklist, _ = run(any_source=True, dicom=True)
        paths = [worklist.folder, *worklist.folder.rglob("*")]
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
        assert {path.name for path in paths} >= {
            "worklist.sqlite",
            "worklist.csv",
            "worklist.json",
            "heatmaps",
            "dicom",
        }
        assert {path: mode for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_dicom_objects_are_written_for_rows_that_have_none(run, files):
    worklist, _ = run(any_source=True)
    assert not (worklist.folder / "dicom").exists()
    assert run(any_source=True, dicom=True)[1] == files
    scored = [file for file in files if case_of_file(worklist, file).score is not None]
    of_dicom = [file for file in scored if case_of_file(worklist, file).source.startswith("DICOM")]
    told = [file for file in files if file not in scored and case_of_file(worklist, file).is_reported]
    n_objects = 3 * len(scored) + len(of_dicom) + 3 * len(told)  # an outline needs a DICOM image that it lies over
    assert len(list((worklist.folder / "dicom").rglob("*.dcm"))) == n_objects > 0
    assert run(any_source=True)[1] == run(any_source=True, dicom=True)[1] == []
