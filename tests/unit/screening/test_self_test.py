"""Self-test of a calibrated model: passes where nothing changed, and names what did."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening import self_test as module
from anomalib_cxr.screening.calibration.record import read_calibration, write_calibration
from anomalib_cxr.screening.self_test import run_self_test, score_phantoms

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "TIMED", 0.001)


def changed(model, **facts):
    """Write a record whose phantoms are changed, as if the model scored them otherwise now."""
    calibration = read_calibration(model)
    first, *others = calibration.phantoms.scores
    scores = (first.model_copy(update=facts), *others)
    phantoms = calibration.phantoms.model_copy(update={"scores": scores})
    write_calibration(calibration.model_copy(update={"phantoms": phantoms}), model)
    return model


def test_passes(calibrated, calibration, caplog):
    assert sum(score.score is not None for score in calibration.phantoms.scores) >= 2
    begin = time.perf_counter()
    with caplog.at_level("INFO"):
        main(["selftest", str(calibrated)])
    assert time.perf_counter() - begin < 60
    assert "Passed: " in caplog.text
    assert "s an image of 256 pixels" in caplog.text


def test_scores_are_those_of_the_calibration(calibrated):
    result = run_self_test(calibrated)
    assert result.difference < 1e-5
    assert result.is_same_drawing
    assert result.seconds > 0


def test_record_has_the_scores_of_the_pipeline(calibration, pipeline_of):
    again = score_phantoms(pipeline_of(), calibration.validated.least_side)
    assert again.size == calibration.phantoms.size
    for new, kept in zip(again.scores, calibration.phantoms.scores, strict=True):
        assert new.pixels == kept.pixels
        assert (new.score is None) == (kept.score is None)
        if new.raw_score is not None:
            assert new.raw_score == pytest.approx(kept.raw_score, abs=1e-5)


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"raw_score": 9.0}, "in the calibration .*before clipping 9.0"),
        ({"score": None, "raw_score": None}, "in the calibration refused"),
    ],
)
def test_another_score_fails(model, facts, named):
    with pytest.raises(ScreeningError, match=rf"(?s)self-test of .* failed:.*PNG\): .*{named}.*DICOM\): "):
        run_self_test(changed(model, **facts))


def test_a_drawing_of_other_libraries_is_told(model, monkeypatch):
    result = run_self_test(changed(model, pixels="0" * 64))
    assert not result.is_same_drawing
    assert "slightly differently" in str(result)


def test_a_broken_chain_fails(calibrated, monkeypatch):
    """An image that is not written is missed."""
    monkeypatch.setattr(
        "anomalib_cxr.screening.pipeline.screener.draw_heatmap", lambda *_: np.zeros((4, 4, 3), np.uint8)
    )
    write = "anomalib_cxr.screening.pipeline.screener.write_png"
    monkeypatch.setattr(write, lambda *_: None)
    with pytest.raises(ScreeningError, match=r"heatmaps/\w+\.png is missing"):
        run_self_test(calibrated)


def test_exit_status(model, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["selftest", str(changed(model, raw_score=9.0))])
    assert ended.value.code == 1
    assert "do not screen with this installation" in capsys.readouterr().err


def test_a_record_of_an_older_version(model):
    record = json.loads((model / "screening.json").read_text())
    (model / "screening.json").write_text(json.dumps({**record, "format": 4}))
    with pytest.raises(ScreeningError, match="format 4"):
        run_self_test(model)


def test_nothing_is_left(calibrated, tmp_path, monkeypatch):
    before = sorted(path.name for path in calibrated.iterdir())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_self_test(calibrated)
    assert list(tmp_path.rglob("worklist.sqlite")) == list(tmp_path.rglob("*.png")) == []
    assert sorted(path.name for path in calibrated.iterdir()) == before
