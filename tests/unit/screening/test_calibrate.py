"""Calibration: what it finds, what it refuses, and that it writes all of it or nothing."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.data.reading.intensities import read_intensities
from anomalib_cxr.deploy.runtime import ExportedModel, read_threshold
from anomalib_cxr.errors import DatasetError, ScreeningError, SettingError
from anomalib_cxr.screening import calibrate as module
from anomalib_cxr.screening.calibration.record import read_calibration
from anomalib_cxr.screening.calibration.threshold import calibrate_threshold
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings
from anomalib_cxr.segmentation.deployed import ExportedSegmenter
from anomalib_cxr.segmentation.packaged import load_packaged_segmenter

from .conftest import TARGET

pytestmark = pytest.mark.slow

calibrate = partial(module.calibrate, force=True)
"""The model of these tests had one epoch, and hardly detects."""
FILES = [
    "input_check.safetensors",
    "lungs.bin",
    "lungs.xml",
    "model.bin",
    "model.xml",
    "reliability.png",
    "screening.json",
]


def hash_of_name(path):
    """Return a number in [0, 1) that has nothing to do with the label."""
    return int(hashlib.sha256(path.stem[:-2].encode()).hexdigest()[:8], 16) / 2**32


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def fresh(exported, tmp_path):
    """A copy of the model as anomalib exports it."""
    return Path(shutil.copytree(exported, tmp_path / "fresh"))


@pytest.fixture
def quick(calibrated, monkeypatch):
    """Take the segmenter of the other tests as they exported it."""

    def copy(_, graph):
        for suffix in (".xml", ".bin"):
            shutil.copy((calibrated / graph.name).with_suffix(suffix), graph.parent)

    monkeypatch.setattr("anomalib_cxr.segmentation.conversion.export_segmenter", copy)


class TestFound:
    def test_threshold_is_that_of_the_scores(self, calibrated, calibration, labeled, stack):
        found = ExportedModel(calibrated)(stack(labeled.images.path))
        scores, raw_scores = found.score.astype(float), found.raw_score.astype(float)
        is_sick = labeled.images.is_sick.to_numpy()
        counts, found = calibration.counts, calibration.thresholds[""]
        assert (counts.normal + counts.refused_normal, counts.sick + counts.refused_sick) == (18, 20)
        assert counts.refused_normal + counts.refused_sick <= 2
        passed = np.isin(raw_scores.round(4), np.array(calibration.healthy).round(4)) | is_sick
        if counts.refused_sick == 0:
            assert found == calibrate_threshold(is_sick[passed], scores[passed], 0.7, 0.8)
        assert found.lower_bound >= 0.7
        assert read_threshold(calibrated / "model.xml") == np.float32(found.threshold)

    def test_record(self, calibration, labeled, data):
        assert calibration.healthy == tuple(sorted(calibration.healthy))
        assert len(calibration.healthy) == calibration.counts.normal
        assert (calibration.validated.sources, calibration.validated.least_side) == (("picture",), 64)
        ages = labeled.images.age
        assert ages.min() <= calibration.validated.ages[0] <= calibration.validated.ages[1] <= ages.max()
        assert calibration.data == data
        assert calibration.probability.prevalence == 0.1
        assert sum(group.n for group in calibration.reliability) == calibration.counts.normal + calibration.counts.sick

    def test_description(self, calibration):
        found = calibration.thresholds[""]
        text = calibration.description
        assert f"threshold {found.threshold:g}. At most 30 % of sick images are expected below the threshold" in text
        assert f"{found.n_sick_below} of {found.n_sick} sick images" in text
        assert "at 80 % confidence" in text
        assert text.endswith(BELOW_THRESHOLD_NOTICE)

    def test_files(self, calibrated):
        assert sorted(path.name for path in calibrated.iterdir()) == FILES

    def test_groups(self, fresh, quick, labeled, segmenter_path):
        target = replace(TARGET, sensitivity=0.5, confidence=0.5, grouping="sex")
        found = calibrate(fresh, labeled, target, segmenter=segmenter_path)
        assert set(found.thresholds) == {"F", "M"}
        assert read_threshold(fresh / "model.xml") == np.float32(
            min(group.threshold for group in found.thresholds.values())
        )
        assert sum(group.n_sick for group in found.thresholds.values()) == found.counts.sick
        assert "\nF: threshold " in found.description


class TestAgain:
    def test_another_sensitivity_moves_both_thresholds(
        self, model, quick, calibration, labeled, segmenter_path, tmp_path
    ):
        found = calibrate(model, labeled, replace(TARGET, sensitivity=0.4), segmenter=segmenter_path)
        assert found.thresholds[""].threshold > calibration.thresholds[""].threshold
        assert read_calibration(model) == found
        assert read_threshold(model / "model.xml") == np.float32(found.thresholds[""].threshold)
        assert found.healthy == calibration.healthy
        assert Screener(ScreenerSettings(model, tmp_path / "out")).calibration.model != calibration.model

    def test_the_same_gives_the_same(self, model, calibration, labeled, segmenter_path, data):
        found = calibrate(model, labeled, TARGET, segmenter=segmenter_path, data=data)
        changing = {"date": "", "files": {}}
        assert found.model_copy(update=changing) == calibration.model_copy(update=changing)


class TestSegmenter:
    def test_that_of_the_package_where_none_is_given(self, fresh, labeled):
        """Found by what it says of an image, at its own size."""
        calibrate(fresh, labeled, TARGET)
        exported, image = ExportedSegmenter(fresh / "lungs.xml"), read_intensities(labeled.images.path[0])
        small = downsample(image, (exported.side, exported.side))
        with torch.inference_mode():
            expected = load_packaged_segmenter()(2 * torch.from_numpy(small)[None, None] - 1)[0, 0]
        np.testing.assert_allclose(exported(small[None])[0], expected, atol=1e-3)

    def test_phantoms_pass_its_input_check(self, fresh, labeled):
        """Of 38 of 64 pixels, as the tests and the tutorials draw them."""
        counts = calibrate(fresh, labeled, TARGET).counts
        assert (counts.refused_normal, counts.refused_sick) == (0, 0)


class TestRefused:
    def refuse(self, folder, labeled, target, segmenter, match, kind=ScreeningError):
        before = content(folder)
        with pytest.raises(kind, match=match) as error:
            calibrate(folder, labeled, target, segmenter=segmenter)
        assert content(folder) == before
        return error.value

    def test_too_few_sick_ones(self, model, labeled, segmenter_path):
        target = replace(TARGET, sensitivity=0.99, confidence=0.95)
        self.refuse(
            model, labeled, target, segmenter_path, r"18 normal images and 20 sick images .*\n.*at least 299 sick ones"
        )

    def test_images_read_otherwise_than_in_the_training(self, model, labeled, segmenter_path):
        other = labeled._replace(sixteen_bit_white=4095)
        self.refuse(model, other, TARGET, segmenter_path, r"sixteen_bit_white = 4095\n.*None, as the model was trained")

    def test_no_normal_ones(self, model, labeled, segmenter_path):
        only_sick = labeled._replace(images=labeled.images[labeled.images.is_sick].reset_index(drop=True))
        self.refuse(model, only_sick, TARGET, segmenter_path, r"0 normal images and 20 sick images")

    def test_images_of_the_training(self, model, labeled, images, segmenter_path, tmp_path):
        """By content: under other names, and with another label."""
        training = sorted(set(images) - set(labeled.images.path))
        copies = [Path(shutil.copy(path, tmp_path / f"{number}.png")) for number, path in enumerate(training)]
        trained = pd.DataFrame({"path": copies, "is_sick": True, "hospital": "", "sex": "", "age": float("nan")})
        mixed = labeled._replace(images=pd.concat([labeled.images, trained], ignore_index=True))
        found = self.refuse(
            model, mixed, TARGET, segmenter_path, "42 of 80 labeled images that the model was trained on", DatasetError
        )
        assert found.offenders == {"trained on": copies}

    def test_groups_that_are_too_small(self, model, quick, labeled, segmenter_path):
        """All are named."""
        images = labeled.images.assign(hospital=["a", "b"] * 19)
        target = replace(TARGET, sensitivity=0.9, confidence=0.9, grouping="hospital")
        images.loc[images.is_sick & (images.index > 30), "hospital"] = "c"
        sick = images[images.is_sick].hospital.value_counts()
        assert set(sick.index) == {"a", "b", "c"}
        found = self.refuse(
            model, labeled._replace(images=images), replace(target, sensitivity=0.8), segmenter_path,
            r"normal images that the input check accepted, and sick images: ",
        )  # fmt: skip
        for group in "abc":
            assert f" of {group}" in found.found
        assert "at least 11 sick ones in each group" in found.expected

    def test_all_healthy_ones_refused_by_the_input_check(self, model, quick, labeled, segmenter_path, tmp_path):
        images = labeled.images.copy()
        for number in images.index[~images.is_sick]:
            path = tmp_path / f"{number}.png"
            Image.open(images.path[number]).rotate(180).save(path)
            images.loc[number, "path"] = path
        turned = labeled._replace(images=images)
        self.refuse(model, turned, TARGET, segmenter_path, r"0 normal")

    def test_all_unreadable_ones_at_once(self, model, quick, labeled, segmenter_path, tmp_path):
        images = labeled.images.copy()
        for number in (0, 20):
            (tmp_path / f"{number}.png").write_bytes(b"no image")
            images.loc[number, "path"] = tmp_path / f"{number}.png"
        found = self.refuse(
            model, labeled._replace(images=images), TARGET, segmenter_path, "2 of 38 labeled images", DatasetError
        )
        assert [path for paths in found.offenders.values() for path in paths] == [
            tmp_path / "0.png",
            tmp_path / "20.png",
        ]

    @pytest.mark.parametrize(
        "wrong", [{"sensitivity": 1.0}, {"sensitivity": float("nan")}, {"confidence": 0.0}, {"prevalence": -0.1}]
    )
    def test_target_that_no_data_can_show(self, wrong):
        with pytest.raises(SettingError, match=rf"{next(iter(wrong))} = .*\n.*between 0 and 1"):
            replace(TARGET, **wrong)


class TestDetection:
    """Scores by the name of the file stand in for a model; all else is as it is."""

    def calibrate(self, folder, labeled, segmenter, monkeypatch, score_of, **settings):
        def score(pipeline, images):
            scores = [score_of(path, is_sick) for path, is_sick in zip(images.path, images.is_sick, strict=True)]
            facts = {"why": "", "least_side": 64, "kind": "picture", "lung_gray": 0.3, "tissue_contrast": 0.4}
            return images.assign(score=scores, raw_score=scores, **facts)

        monkeypatch.setattr(module, "score_images", score)
        return module.calibrate(folder, labeled, TARGET, segmenter=segmenter, **settings)

    @pytest.mark.parametrize(
        ("score_of", "reasons"),
        [
            (lambda path, is_sick: 0.9 - 0.5 * is_sick + hash_of_name(path) / 10, "AUROC 0.000.*does not rise.*"),
            (lambda path, _: hash_of_name(path), "AUROC 0.*not shown to be better than chance"),
            (
                lambda path, is_sick: 0.0 if is_sick and int(path.stem[8:12]) % 4 == 0 else 0.1 + 0.8 * is_sick,
                "none of 18 normal",
            ),
        ],
        ids=["upside down", "chance", "nobody freed"],
    )
    def test_a_model_that_is_of_no_use(self, fresh, quick, labeled, segmenter_path, monkeypatch, score_of, reasons):
        before = content(fresh)
        with pytest.raises(ScreeningError, match=rf"does not detect: .*{reasons}.*\n.*\n.*--force"):
            self.calibrate(fresh, labeled, segmenter_path, monkeypatch, score_of)
        assert content(fresh) == before

    def test_forced_it_says_so_and_contradicts_itself_nowhere(
        self, fresh, quick, labeled, segmenter_path, monkeypatch, caplog
    ):
        def score_of(path, is_sick):
            return 0.9 - 0.5 * is_sick + hash_of_name(path) / 10

        found = self.calibrate(fresh, labeled, segmenter_path, monkeypatch, score_of, force=True)
        assert "does not detect" in caplog.text
        assert found.description.startswith("Not fit to screen, calibrated by --force: AUROC 0.000")
        assert len(set(found.probability(np.linspace(0, 1, 5)))) == 1  # constant: it never falls as the score rises
        assert found.probability(np.array([0.5])) == pytest.approx(TARGET.prevalence)

    def test_a_second_model_is_compared_and_left_as_it_is(
        self, fresh, exported, quick, labeled, segmenter_path, monkeypatch, tmp_path
    ):
        before = content(exported)

        def score_of(path, is_sick):
            return 0.5 * is_sick + hash_of_name(path) / 2

        study = module.Study(tmp_path / "study", compare=exported)
        self.calibrate(fresh, labeled, segmenter_path, monkeypatch, score_of, study=study)
        table = pd.read_csv(study.folder / "comparison.csv", index_col="figure")
        assert table.n.to_dict() == {"AUROC": 38, "sensitivity": 20, "specificity": 18}
        assert (table.p == 1).all()  # the scores are the same
        page = (study.folder / "study.html").read_text()
        assert f"{exported} (SHA-256 {ExportedModel(exported).sha256[:16]}" in page
        assert content(exported) == before

    def test_one_that_detects(self, fresh, quick, labeled, segmenter_path, monkeypatch, tmp_path):
        study = module.Study(tmp_path / "study", cost_read=3)
        found = self.calibrate(
            fresh,
            labeled,
            segmenter_path,
            monkeypatch,
            lambda path, is_sick: 0.5 * is_sick + hash_of_name(path) / 2,
            study=study,
        )
        assert {path.name for path in study.folder.iterdir()} == {
            *("study.html", "thresholds.csv", "groups.csv", "reliability.csv", "sick_needed.csv")
        }
        page = (study.folder / "study.html").read_text()
        assert found.description.splitlines()[-1] in page
        assert "<b>met</b>" in page
        assert 'src="data:image/png;base64,iVBOR' in page
        assert "http" not in page
        rates = pd.read_csv(study.folder / "thresholds.csv").set_index("threshold")
        assert rates.sensitivity.iloc[0] == 1
        assert len(rates) == len(labeled.images) + 1
        assert found.weaknesses == ()
        assert found.detection.auroc == roc_auc_score(labeled.images.is_sick, [
            0.5 * is_sick + hash_of_name(path) / 2
            for path, is_sick in zip(labeled.images.path, labeled.images.is_sick, strict=True)
        ])  # fmt: skip
        assert "Not fit" not in found.description


class TestRawScores:
    def test_tell_apart_what_ties_at_a_score_of_one(self, fresh, quick, labeled, segmenter_path, monkeypatch):
        """More than half of all images score 1; AUROC, probability and p-values are as of a score without ties."""

        def score(_, images):
            raw = 1.5 * images.is_sick + np.array([2 * hash_of_name(path) for path in images.path])
            facts = {"why": "", "least_side": 64, "kind": "picture", "lung_gray": 0.3, "tissue_contrast": 0.4}
            return images.assign(score=raw.clip(0, 1), raw_score=raw, **facts)

        monkeypatch.setattr(module, "score_images", score)
        found = calibrate(fresh, labeled, TARGET, segmenter=segmenter_path)
        images = score(None, labeled.images)
        assert (images.score == 1).mean() > 0.5
        assert found.detection.auroc == pytest.approx(roc_auc_score(images.is_sick, images.raw_score))
        assert found.detection.auroc > roc_auc_score(images.is_sick, images.score)
        assert found.healthy == pytest.approx(sorted(images.raw_score[~images.is_sick]))
        assert found.thresholds[""].threshold <= 1
        fitted = LogisticRegression(C=100).fit(images[["raw_score"]].to_numpy(), images.is_sick)
        assert (found.probability.slope, found.probability.intercept) == pytest.approx(
            (fitted.coef_.item(), fitted.intercept_.item())
        )
        assert found.probability(np.array([2.0, 3.0]))[0] < found.probability(np.array([2.0, 3.0]))[1]


class TestPatients:
    def test_a_patient_counts_once_by_the_lowest_score(self, fresh, quick, labeled, segmenter_path):
        """20 sick images of 10 patients: 10 independent ones, which show less."""
        images = labeled.images.assign(patient=[f"P{number // 2}" for number in range(len(labeled.images))])
        sick = images[images.is_sick]
        assert len(sick) == 2 * sick.patient.nunique() or sick.patient.nunique() == 11
        found = calibrate(fresh, labeled._replace(images=images), TARGET, segmenter=segmenter_path)
        (rule,) = found.thresholds.values()
        assert rule.unit == "patients"
        assert rule.n_sick <= sick.patient.nunique()
        assert "At most 30 % of sick patients are expected below the threshold" in found.description

    def test_too_few_patients(self, fresh, quick, labeled, segmenter_path):
        images = labeled.images.assign(patient="one")
        with pytest.raises(ScreeningError, match=r"18 normal images and 1 sick patients"):
            calibrate(fresh, labeled._replace(images=images), TARGET, segmenter=segmenter_path)


class TestInterrupted:
    @pytest.mark.parametrize("step", [0, 1, 2, 5, 6])
    def test_while_files_are_moved(
        self, model, quick, labeled, segmenter_path, calibration, monkeypatch, tmp_path, step
    ):
        """The former calibration is still valid, or what is there is refused; and the next calibration mends it."""
        moves = []

        def stop(source, target, replace=module.os.replace):
            if Path(target).parent == model:
                if len(moves) == step:
                    raise KeyboardInterrupt
                moves.append(Path(target).name)
            replace(source, target)

        target = replace(TARGET, sensitivity=0.4)
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "replace", stop)
            with pytest.raises(KeyboardInterrupt):
                calibrate(model, labeled, target, segmenter=segmenter_path)
        assert sorted(path.name for path in model.iterdir()) == FILES
        if moves:
            with pytest.raises(ScreeningError, match="not the files that were calibrated"):
                Screener(ScreenerSettings(model, tmp_path / "out"))
        else:
            assert read_calibration(model) == calibration
        if step in {1, 6}:  # between graph and weights, and before the record
            found = calibrate(model, labeled, target, segmenter=segmenter_path)
            assert read_calibration(model) == found
            assert found.healthy == calibration.healthy


@pytest.mark.parametrize(("model_side", "least_side"), [(128, 128), (32, 64), (400, 400), (512, 400), (None, 400)])
def test_ages_and_sizes_of_what_passed(model_side, least_side):
    table = pd.DataFrame({
        "score": [0.1, 0.2, None], "age": [30.0, 50.0, 90.0], "kind": ["picture", "DICOM DX, A", "other"],
        "least_side": [900, 400, 20],
    })  # fmt: skip
    found = module._validated_range(table[table.score.notna()], model_side)
    assert (found.sources, found.ages, found.least_side) == (("DICOM DX, A", "picture"), (30.0, 50.0), least_side)
