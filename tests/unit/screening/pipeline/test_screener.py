"""Rows and pictures of files, against model, calibration and the graph's own label."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy.special import expit, logit

from anomalib_cxr.data.reading.discovery import DOCUMENT, HIDDEN, WRITTEN
from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.record import read_calibration
from anomalib_cxr.screening.calibration.threshold import CalibratedThreshold, lower_bound
from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.screening.fingerprint import fingerprint_of
from anomalib_cxr.screening.pipeline import screener as screener_module
from anomalib_cxr.screening.pipeline.inputs import find_inputs
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings, screen
from anomalib_cxr.screening.worklist.lock import LOCK
from anomalib_cxr.screening.worklist.store import Worklist

pytestmark = pytest.mark.slow


def cases_of(screener, files):
    return [case for batch in screener.cases(files) for case in batch]


@pytest.fixture
def cases(screener, images):
    return cases_of(screener, images[50:70])


class TestRows:
    def test_decision_is_the_label_of_the_graph(self, cases, calibrated, stack):
        scored = [case for case in cases if case.score is not None]
        found = ExportedModel(calibrated)(stack([case.path for case in scored]))
        assert [case.decision is Decision.TO_READ for case in scored] == found.label.tolist()
        assert {case.decision for case in scored} == {Decision.TO_READ, Decision.BELOW_THRESHOLD}
        assert [case.score for case in scored] == pytest.approx(found.score.tolist(), abs=1e-5)
        assert [case.raw_score for case in scored] == pytest.approx(found.raw_score.tolist(), abs=1e-5)

    def test_numbers(self, cases, calibration):
        curve, healthy = calibration.probability, calibration.healthy
        for case in cases:
            if case.score is None:
                continue
            odds = curve.intercept + curve.slope * case.raw_score + logit(curve.prevalence) - logit(curve.share)
            assert case.probability == pytest.approx(expit(odds))
            assert case.p_value == pytest.approx(
                (1 + sum(score >= case.raw_score for score in healthy)) / (len(healthy) + 1)
            )
            assert (case.threshold, case.guarantee) == (
                calibration.thresholds[""].threshold,
                "At most 30 % of sick images are expected below the threshold, at 80 % confidence.",
            )
            assert (case.decision is Decision.BELOW_THRESHOLD) == (case.score < case.threshold)
            assert "of healthy images score as high. Most unusual: " in case.findings

    def test_facts(self, cases, calibration, images):
        for case, path in zip(cases, images[50:70], strict=True):
            assert (case.path, case.fingerprint) == (str(path), fingerprint_of(path))
            assert case.content == hashlib.sha256(path.read_bytes()).hexdigest()
            assert (case.height, case.width, case.source, case.model) == (64, 64, "picture", calibration.model)
            assert case.screened.endswith("+00:00")

    def test_a_refused_one(self, screener, tmp_path):
        (tmp_path / "x.png").write_bytes(b"no image")
        (case,) = cases_of(screener, [tmp_path / "x.png"])
        assert (case.decision, case.score, case.probability, case.heatmap) == (Decision.REFUSED, None, None, "")
        assert case.decision_text.startswith("refused: not readable as a frontal X-ray: ")
        assert not (tmp_path / "out").exists()


class TestPictures:
    def test_of_each_scored_one(self, cases, screener, scorer, lungs, stack):
        out = screener.settings.output
        scored = [case for case in cases if case.score is not None]
        assert len(list((out / "heatmaps").glob("*.png"))) == len({case.heatmap for case in scored}) == len(scored)
        for case in scored[:3]:
            assert np.asarray(Image.open(out / case.heatmap)).shape == (64, 64, 3)
            heat, outline = (np.asarray(Image.open(out / f"{case.layers}-{kind}.png")) for kind in ("heat", "lungs"))
            assert np.abs(heat - 255 * scorer(stack([case.path])).heat[0]).max() <= 1
            assert outline.shape == (lungs.side, lungs.side)
            assert outline.max() > 200

    def test_with_dicom(self, calibrated, dicoms, tmp_path):
        settings = ScreenerSettings(calibrated, tmp_path / "out", any_source=True, dicom=True)
        (case,) = cases_of(Screener(settings), dicoms[:1])
        made = [pydicom.dcmread(path) for path in sorted((tmp_path / "out" / "dicom").rglob("*.dcm"))]
        assert {dataset.Modality for dataset in made} == {"OT", "SR", "DOC", "PR"}
        assert {dataset.StudyInstanceUID for dataset in made} == {case.study_uid}

    def test_with_dicom_a_refused_xray_says_why(self, calibrated, dicoms, tmp_path):
        """A source that the model was not validated on; a file that is no X-ray has no objects."""
        (tmp_path / "note.dcm").write_text("no X-ray")
        screener = Screener(ScreenerSettings(calibrated, tmp_path / "out", dicom=True))
        cases = cases_of(screener, [dicoms[0], tmp_path / "note.dcm"])
        assert [case.is_reported for case in cases] == [True, False]
        made = [pydicom.dcmread(path) for path in sorted((tmp_path / "out" / "dicom").rglob("*.dcm"))]
        assert sorted(dataset.Modality for dataset in made) == ["DOC", "OT", "SR"]
        assert {dataset.StudyInstanceUID for dataset in made} == {cases[0].study_uid}

    def test_dicom_objects_are_of_the_file_that_was_scored(self, calibrated, dicoms, tmp_path, monkeypatch):
        """Another patient's file takes its place after it was read."""
        path = shutil.copy(dicoms[0], tmp_path / "replaced.dcm")
        screener = Screener(ScreenerSettings(calibrated, tmp_path / "out", any_source=True, dicom=True))
        scored = screener.pipeline.model

        def replacing(images):
            shutil.copy(dicoms[1], path)
            return scored(images)

        monkeypatch.setattr(screener.pipeline, "model", replacing)
        (case,) = cases_of(screener, [path])
        first, second = (pydicom.dcmread(file) for file in dicoms)
        assert first.PatientID != second.PatientID
        assert case.content == hashlib.sha256(dicoms[0].read_bytes()).hexdigest()
        made = [pydicom.dcmread(file) for file in (tmp_path / "out" / "dicom").rglob("*.dcm")]
        assert [(dataset.PatientID, dataset.StudyInstanceUID) for dataset in made] == [
            (first.PatientID, first.StudyInstanceUID)
        ] * 4

    def test_a_file_that_vanishes_after_it_was_read_ends_nothing(self, calibrated, dicoms, tmp_path, monkeypatch):
        path = Path(shutil.copy(dicoms[0], tmp_path / "gone.dcm"))
        screener = Screener(ScreenerSettings(calibrated, tmp_path / "out", any_source=True, dicom=True))
        scored = screener.pipeline.model
        monkeypatch.setattr(screener.pipeline, "model", lambda images: path.unlink() or scored(images))
        cases = cases_of(screener, [path, dicoms[1]])
        assert [case.score is not None for case in cases] == [True, True]
        assert len(list((tmp_path / "out" / "dicom").rglob("*.dcm"))) == 8


class TestRefused:
    def test_a_model_without_calibration(self, exported, tmp_path):
        with pytest.raises(ScreeningError, match=r"no screening.json, lungs.xml.*\n.*\n.*anomalib-cxr calibrate"):
            Screener(ScreenerSettings(exported, tmp_path))

    @pytest.mark.parametrize("name", ["lungs.bin", "lungs.xml", "input_check.safetensors", "model.bin", "model.xml"])
    def test_a_file_that_is_not_what_was_calibrated(self, model, tmp_path, name):
        content = bytearray((model / name).read_bytes())
        content[len(content) // 2] ^= 1
        (model / name).write_bytes(content)
        with pytest.raises(ScreeningError, match=rf"{name}.*not the files that were calibrated"):
            Screener(ScreenerSettings(model, tmp_path / "out"))

    @pytest.mark.parametrize("name", ["model.bin", "lungs.bin", "input_check.safetensors"])
    def test_a_file_that_is_exchanged_after_the_check(self, model, tmp_path, monkeypatch, name):
        """The files agree with the record when it is read, and others lie there when they are loaded."""

        def exchanged(folder):
            calibration = read_calibration(folder)
            content = bytearray((folder / name).read_bytes())
            content[len(content) // 2] ^= 1
            (folder / name).write_bytes(content)
            return calibration

        monkeypatch.setattr(screener_module, "read_calibration", exchanged)
        with pytest.raises(ScreeningError, match=rf"{name} in .*exchanged while they were loaded"):
            Screener(ScreenerSettings(model, tmp_path / "out"))

    def test_a_file_that_is_exchanged_after_it_was_loaded_changes_nothing(self, model, calibrated, images, tmp_path):
        screener = Screener(ScreenerSettings(model, tmp_path / "out"))
        for name in ("model.bin", "lungs.bin", "input_check.safetensors"):
            (model / name).write_bytes(b"else")
        unchanged = Screener(replace(screener.settings, model=calibrated))
        found, expected = ([case.score for case in cases_of(one, images[:3])] for one in (screener, unchanged))
        assert found == expected
        assert any(score is not None for score in found)

    def test_all_of_them_at_once(self, model, tmp_path):
        for name in ("lungs.bin", "input_check.safetensors", "model.bin"):
            (model / name).write_bytes(b"else")
        with pytest.raises(ScreeningError, match=r"model.bin.*lungs.bin.*input_check.safetensors"):
            Screener(ScreenerSettings(model, tmp_path / "out"))

    @pytest.mark.parametrize("hospital", ["", "elsewhere"])
    def test_an_unknown_hospital(self, calibration, hospital):
        by_hospital = calibration.model_copy(
            update={"grouping": "hospital", "thresholds": {"a": rule(0.1), "b": rule(0.2)}}
        )
        with pytest.raises(ScreeningError, match=rf"hospital '{hospital}'\n.*one of a, b"):
            by_hospital.refuse_hospital(hospital)
        by_hospital.refuse_hospital("b")


def rule(threshold):
    numbers = {"n_sick": 9, "n_sick_below": 0, "n_normal": 9, "n_normal_below": 0, "unit": "images"}
    bound = lower_bound(9, 0, 0.9)
    return CalibratedThreshold(threshold=threshold, sensitivity=0.7, confidence=0.9, lower_bound=bound, **numbers)


def test_the_threshold_of_the_own_group(screener, images):
    score, groups = 0.5, {"F": rule(0.0), "M": rule(0.6)}
    screener.calibration = screener.calibration.model_copy(update={"grouping": "sex", "thresholds": groups})
    (result,) = next(screener.pipeline(images[:1]))
    for sex, decision in {"F": Decision.TO_READ, "M": Decision.BELOW_THRESHOLD, "": Decision.TO_READ}.items():
        case = screener._case(replace(result, header=result.header._replace(sex=sex), score=score))
        assert (case.decision, case.subgroup) == (decision, sex or "F")


@pytest.mark.parametrize(
    "changes", [{"score": float("nan")}, {"raw_score": float("nan")}, {"raw_score": -float("inf")}]
)
def test_a_score_that_is_no_number_is_never_below_the_threshold(screener, images, changes):
    screener.calibration = screener.calibration.model_copy(update={"thresholds": {"": rule(1.0)}})  # frees any number
    (result,) = next(screener.pipeline(images[:1]))
    result = replace(result, score=0.5, raw_score=0.5)
    assert screener._case(result).decision is Decision.BELOW_THRESHOLD
    case = screener._case(replace(result, **changes))
    assert case.decision is Decision.TO_READ
    if "raw_score" in changes:
        assert (case.raw_score, case.probability, case.p_value) == (None, None, None)
        assert case.findings == "The score is no finite number."
    else:
        assert case.score is None


def test_cases_of_one_clamped_score_differ_in_probability(screener, images):
    """As the raw scores do, by which they are ranked."""
    curve = screener.calibration.probability.model_copy(update={"slope": 2.0})
    screener.calibration = screener.calibration.model_copy(update={"probability": curve})
    (result,) = next(screener.pipeline(images[:1]))
    cases = [screener._case(replace(result, score=1.0, raw_score=raw)) for raw in (1.0, 1.5, 4.0)]
    odds = [logit(case.probability) for case in cases]
    assert np.diff(odds) == pytest.approx([1.0, 5.0])
    assert {case.score for case in cases} == {1.0}


@pytest.fixture
def files(images, tmp_path):
    """Copies of twenty phantoms, and a file that is no image."""
    folder = tmp_path / "in"
    folder.mkdir()
    for path in images[:12] + images[60:68]:
        shutil.copy(path, folder)
    (folder / "z.png").write_bytes(b"no image")
    return sorted(folder.iterdir())


@pytest.fixture
def run(screener, calibration):
    def run(files, engine=screener.cases, **settings):
        return screen(files, screener.settings, calibration, engine, **settings)

    return run


def idle(files):
    """An engine that must not be needed."""
    assert list(files) == []
    return iter(())


def tables(folder):
    with (folder / "worklist.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert [row["path"] for row in json.loads((folder / "worklist.json").read_text())["rows"]] == paths
    return paths


class TestScreenedAgainByOtherOptions:
    def test_a_row_that_is_refused_then_leaves_no_pictures(self, run, screener, dicoms):
        """No DICOM file was validated: without `any_source` it is refused."""
        screener.settings = replace(screener.settings, any_source=True)
        screener.pipeline.any_source = True
        worklist = run(dicoms[:1])
        scored = worklist.case(worklist.number_of(dicoms[0]))
        pictures = [scored.heatmap, f"{scored.layers}-heat.png", f"{scored.layers}-lungs.png"]
        assert all((worklist.folder / name).is_file() for name in pictures)
        screener.settings = replace(screener.settings, any_source=False)
        screener.pipeline.any_source = False
        run(dicoms[:1])
        refused = worklist.case(worklist.number_of(dicoms[0]))
        assert (refused.decision, refused.heatmap, refused.layers) == (Decision.REFUSED, "", "")
        assert [name for name in pictures if (worklist.folder / name).exists()] == []


class TestWhole:
    def test_a_row_for_each_file(self, run, files):
        worklist = run(files)
        assert sorted(tables(worklist.folder)) == [str(file) for file in files]
        assert worklist.counts()[Decision.REFUSED] >= 1
        assert worklist.case(worklist.number_of(files[-1])).why.startswith("not readable")

    def test_again_nothing_is_looked_at(self, run, files):
        first = run(files).find()
        second = run(files, idle).find()
        assert second == first
        assert len(second) == len(files)

    def test_a_changed_file_is_screened_anew(self, run, files, screener):
        worklist = run(files)
        number = worklist.number_of(files[0])
        before = worklist.case(number)
        worklist.give_verdict(number, Verdict.NORMAL, "Ada", content=before.content)
        shutil.copy(files[15], files[0])
        seen = []
        run(files, lambda given: seen.extend(given) or screener.cases(given))
        assert seen == [files[0]]
        current = worklist.number_of(files[0])
        assert current != number
        assert worklist.case(current).score == pytest.approx(
            worklist.case(worklist.number_of(files[15])).score, abs=1e-5
        )
        assert worklist.verdicts(current) == []
        assert [(record.reader, case.score) for record, case in worklist.verdicts_with_cases()] == [
            ("Ada", before.score)
        ]
        assert worklist.count() == len(files)
        assert (worklist.folder / before.heatmap).read_bytes() != (
            worklist.folder / worklist.case(current).heatmap
        ).read_bytes()

    def test_two_files_exchanged_and_back(self, run, files):
        """Verdicts follow the content at its path, and are seen as history where it is replaced."""
        worklist = run(files[:2])
        before = [worklist.number_of(file) for file in files[:2]]
        for number, reader in zip(before, ("Ada", "Bob"), strict=True):
            worklist.give_verdict(number, Verdict.NORMAL, reader, content=worklist.case(number).content)
        contents = [file.read_bytes() for file in files[:2]]
        for order in ([1, 0], [0, 1]):
            for file, place in zip(files[:2], order, strict=True):
                file.write_bytes(contents[place])
            run(files[:2])
            current = [worklist.number_of(file) for file in files[:2]]
            for file, number, place in zip(files[:2], current, order, strict=True):
                assert worklist.case(number).content == hashlib.sha256(contents[place]).hexdigest()
                assert [earlier.path for _, earlier in worklist.earlier(number)] == [str(file)]
            if order == [1, 0]:
                assert not set(current) & set(before)
                assert [worklist.verdicts(number) for number in current] == [[], []]
                history = [worklist.earlier(number)[0][0] for number in current]
                assert [worklist.verdicts(number)[0].reader for number in history] == ["Ada", "Bob"]
        assert current == before
        assert [worklist.verdicts(number)[0].reader for number in current] == ["Ada", "Bob"]
        assert worklist.count() == 2

    def test_new_files_are_added(self, run, files):
        run(files[:5])
        assert len(tables(run(files[:9]).folder)) == 9


class TestNames:
    def test_of_other_encodings_have_their_row(self, run, files):
        odd = files[0].rename(files[0].with_name(os.fsdecode(b"M\xfcller.png")))
        worklist = run([odd, files[1]])
        assert len(tables(worklist.folder)) == 2
        case = worklist.case(worklist.number_of(odd))
        assert (case.path, case.file) == (f"{odd.parent}/M\\xfcller.png", odd)
        assert case.score is not None
        run([odd], idle)

    def test_are_those_that_the_user_knows(self, run, files, tmp_path):
        (tmp_path / "study").symlink_to(files[0].parent)
        found, _ = find_inputs([tmp_path / "study"])
        worklist = run(found[:2])
        assert sorted(tables(worklist.folder)) == [f"{tmp_path}/study/{file.name}" for file in files[:2]]

    def test_of_what_was_left_out_are_in_a_table(self, run, files):
        run(files[:1], left_out={"link to nothing": [files[1]]})
        left_out = (files[0].parents[1] / "out" / "left_out.csv").read_text()
        assert left_out == f"path,reason\n{files[1]},link to nothing\n"


class TestOwnImages:
    def test_of_an_earlier_list_are_not_screened(self, run, files):
        folder = run(files[:3]).folder
        found = find_inputs([folder.parent])
        assert found.files == files
        assert found.left_out == {
            WRITTEN: [folder / "heatmaps", folder / "layers"],
            HIDDEN: sorted(folder.glob(".*")),
            DOCUMENT: sorted(path for path in folder.iterdir() if path.suffix and not path.name.startswith(".")),
        }

    def test_that_were_moved_are_refused(self, run, files):
        worklist = run(files[:1])
        heatmap = worklist.folder / worklist.case(1).heatmap
        moved = Path(shutil.copy(heatmap, files[0].parent))
        worklist = run([moved])
        assert "written by anomalib_cxr" in worklist.case(worklist.number_of(moved)).why


class TestInterrupted:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("a worker died")])
    def test_the_first_rows_stay_and_it_goes_on(self, run, files, screener, error):
        def stopping(given):
            yield next(screener.cases(given))
            raise error

        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            run(files, stopping)
        folder = screener.settings.output
        first = tables(folder)
        assert len(first) == 8
        seen = []
        run(files, lambda given: seen.extend(given) or screener.cases(given))
        assert set(map(str, seen)) == set(map(str, files)) - set(first)
        assert sorted(tables(folder)) == [str(file) for file in files]

    def test_a_full_disk(self, run, files, screener, monkeypatch):
        run(files[:5])
        before = Worklist(screener.settings.output).find()

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(screener_module, "write_png", full)
            with pytest.raises(
                ScreeningError, match=r"out: cannot be written \(.*No space left.*\)\n.*\n.*no row is lost"
            ):
                run(files)
        assert Worklist(screener.settings.output).find() == before
        assert len(tables(screener.settings.output)) == 5
        assert run(files).count() == len(files)


HOLD = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]).acquire(); print('held', flush=True); input()"


class TestOtherWriters:
    def test_rows_of_another_model(self, run, files, calibration, screener):
        run(files[:2])
        other = calibration.model_copy(update={"date": "1999"})  # the same model
        with pytest.raises(ScreeningError, match=rf"rows of another model or calibration, {calibration.identity[:12]}"):
            screen(files, screener.settings, other, idle)
        assert len(tables(screener.settings.output)) == 2

    def test_two_at_once(self, run, files, screener):
        run(files[:2])
        words = [sys.executable, "-c", HOLD, screener.settings.output / LOCK]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:  # noqa: S603
            assert other.stdout.readline() == "held\n"
            with pytest.raises(ScreeningError, match="another screening writes there"):
                run(files)
            other.communicate("\n")
        assert run(files).count() == len(files)

    def test_a_file_in_place_of_the_folder(self, run, files, screener):
        screener.settings.output.write_text("a file")
        with pytest.raises(ScreeningError, match=r"out: cannot be written"):
            run(files)
