"""Rows and pictures of files, against model, calibration and the graph's own label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy.special import expit, logit

from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.threshold import RuleOut
from anomalib_cxr.screening.case import Decision
from anomalib_cxr.screening.pipeline.pipeline import stamp_of
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings, refuse_hospital


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
        assert {case.decision for case in scored} == {Decision.TO_READ, Decision.RULED_OUT}
        assert [case.score for case in scored] == pytest.approx(found.score.tolist(), abs=1e-5)

    def test_numbers(self, cases, calibration):
        curve, healthy = calibration.probability, calibration.healthy
        for case in cases:
            if case.score is None:
                continue
            odds = curve.intercept + curve.slope * case.score + logit(curve.prevalence) - logit(curve.share)
            assert case.probability == pytest.approx(expit(odds))
            assert case.p_value == pytest.approx((1 + sum(each >= case.score for each in healthy)) / (len(healthy) + 1))
            assert case.threshold == calibration.rule_out[""].threshold
            assert (case.decision is Decision.RULED_OUT) == (case.score < case.threshold)
            assert "of healthy images score as high. Most unusual: " in case.findings

    def test_facts(self, cases, calibration, images):
        for case, path in zip(cases, images[50:70], strict=True):
            assert (case.path, case.size, case.modified) == (str(path), *stamp_of(path))
            assert (case.height, case.width, case.source, case.model) == (64, 64, "picture", calibration.model)
            assert case.screened.endswith("+00:00")

    def test_a_refused_one(self, screener, tmp_path):
        (tmp_path / "x.png").write_bytes(b"no image")
        (case,) = cases_of(screener, [tmp_path / "x.png"])
        assert (case.decision, case.score, case.probability, case.heatmap) == (Decision.REFUSED, None, None, "")
        assert case.decision_text.startswith("refused: not readable as a frontal X-ray: ")
        assert not (tmp_path / "out").exists()


class TestPictures:
    def test_of_each_scored_one(self, cases, screener, scorer, finder, stack):
        out = screener.settings.output
        scored = [case for case in cases if case.score is not None]
        assert len(list((out / "heatmaps").iterdir())) == len({case.heatmap for case in scored}) == len(scored)
        for case in scored[:3]:
            assert np.asarray(Image.open(out / case.heatmap)).shape == (64, 64, 3)
            heat, lungs = (np.asarray(Image.open(out / f"{case.layers}-{kind}.png")) for kind in ("heat", "lungs"))
            assert np.abs(heat - 255 * scorer(stack([case.path])).heat[0]).max() <= 1
            assert lungs.shape == (finder.side, finder.side)
            assert lungs.max() > 200

    def test_with_dicom(self, calibrated, dicoms, tmp_path):
        settings = ScreenerSettings(calibrated, tmp_path / "out", any_source=True, dicom=True)
        (case,) = cases_of(Screener(settings), dicoms[:1])
        made = [pydicom.dcmread(path) for path in sorted((tmp_path / "out" / "dicom").rglob("*.dcm"))]
        assert {dataset.Modality for dataset in made} == {"OT", "SR"}
        assert {dataset.StudyInstanceUID for dataset in made} == {case.study_uid}


class TestRefused:
    def test_a_model_without_calibration(self, exported, tmp_path):
        with pytest.raises(ScreeningError, match=r"no screening.json, lungs.xml.*\n.*\n.*anomalib-cxr calibrate"):
            Screener(ScreenerSettings(exported, tmp_path))

    @pytest.mark.parametrize("name", ["lungs.bin", "lungs.xml", "gate.npz", "model.bin", "model.xml"])
    def test_a_file_that_is_not_what_was_calibrated(self, model, tmp_path, name):
        content = bytearray((model / name).read_bytes())
        content[len(content) // 2] ^= 1
        (model / name).write_bytes(content)
        with pytest.raises(ScreeningError, match=rf"{name}.*not what was calibrated"):
            Screener(ScreenerSettings(model, tmp_path / "out"))

    def test_all_of_them_at_once(self, model, tmp_path):
        for name in ("lungs.bin", "gate.npz", "model.bin"):
            (model / name).write_bytes(b"else")
        with pytest.raises(ScreeningError, match=r"model.bin.*lungs.bin.*gate.npz"):
            Screener(ScreenerSettings(model, tmp_path / "out"))

    @pytest.mark.parametrize("hospital", ["", "elsewhere"])
    def test_an_unknown_hospital(self, calibration, hospital):
        by_hospital = calibration.model_copy(
            update={"grouping": "hospital", "rule_out": {"a": rule(0.1), "b": rule(0.2)}}
        )
        with pytest.raises(ScreeningError, match=rf"hospital '{hospital}'\n.*one of a, b"):
            refuse_hospital(by_hospital, hospital)
        refuse_hospital(by_hospital, "b")


def rule(threshold):
    numbers = {"n_sick": 9, "n_missed": 0, "n_normal": 9, "n_freed": 0}
    return RuleOut(threshold=threshold, sensitivity=0.9, confidence=0.9, lower_bound=0.9, **numbers)


def test_the_threshold_of_the_own_group(screener, images):
    score = next(case.score for case in cases_of(screener, images[:3]) if case.score is not None)
    groups = {"F": rule(0.0), "M": rule(score + 0.1)}
    screener.calibration = screener.calibration.model_copy(update={"grouping": "sex", "rule_out": groups})
    (look,) = next(screener.station.look(images[:1]))
    for sex, decision in {"F": Decision.TO_READ, "M": Decision.RULED_OUT, "": Decision.TO_READ}.items():
        case = screener._case(replace(look, header=look.header._replace(sex=sex), score=score))
        assert (case.decision, case.subgroup) == (decision, sex or "F")


def test_a_score_that_is_no_number_is_never_ruled_out(screener, images):
    (look,) = next(screener.station.look(images[:1]))
    case = screener._case(replace(look, score=float("nan")))
    assert case.decision is not Decision.RULED_OUT
