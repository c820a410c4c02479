"""The regression against scikit-learn's, and calibrated scores against what they are to be."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from anomalib_cxr.models.base.exposure import RIDGE, ExposedScore, ExposureCalibration, boxed


@pytest.fixture
def healthy():
    draw = torch.Generator().manual_seed(0)
    exposures = torch.randn(150, 3, generator=draw) * torch.tensor([0.3, 2.0, 1.0]) + torch.tensor([1.0, -3.0, 0.0])
    slopes = torch.tensor([[2.0, 0.0], [0.5, -1.0], [0.0, 0.3]])
    return 4 + exposures @ slopes + 0.2 * torch.randn(150, 2, generator=draw), exposures


@pytest.fixture
def calibration(healthy):
    calibration = ExposureCalibration(2)
    calibration.fit(*healthy)
    return calibration


def test_takes_off_what_scikit_learns_ridge_expects(healthy, calibration):
    scores, exposures = (each.double().numpy() for each in healthy)
    scaler = StandardScaler().fit(exposures)
    ridge = Ridge(alpha=RIDGE).fit(scaler.transform(exposures), scores)
    residual = scores - ridge.predict(scaler.transform(exposures))
    expected = torch.from_numpy(residual / residual.std(axis=0)).float()
    torch.testing.assert_close(calibration(*healthy), expected, atol=1e-3, rtol=0)


def test_healthy_scores_no_longer_follow_the_exposure(healthy, calibration):
    found = calibration(*healthy)
    torch.testing.assert_close(found.std(dim=0, correction=0), torch.ones(2), atol=1e-3, rtol=0)
    together = torch.corrcoef(torch.cat([found, healthy[1]], dim=1).T)
    assert together[:2, 2:].abs().max() < 0.35  # of what the ridge shrinks, something is left
    before = torch.corrcoef(torch.cat(healthy, dim=1).T)
    assert before[:2, 2:].abs().max() > 0.8


def test_it_travels_with_the_weights(healthy, calibration):
    other = ExposureCalibration(2)
    assert not other.fitted
    other.load_state_dict(calibration.state_dict())
    assert other.fitted
    assert torch.equal(other(*healthy), calibration(*healthy))


def test_alike_exposures_and_scores_give_no_division_by_zero():
    calibration = ExposureCalibration(1)
    calibration.fit(torch.ones(60, 1), torch.ones(60, 3))
    assert calibration(torch.ones(2, 1), torch.zeros(2, 3)).isfinite().all()


def test_the_regions_are_those_of_healthy_people():
    """Each has lung at a place of its own; what nine of ten share counts."""
    lungs = torch.zeros(20, 1, 128, 128)
    lungs[..., 24:104, 16:56] = lungs[..., 24:104, 72:112] = 0.9
    lungs[0, ..., 64:104, 16:56] = 0
    score = ExposedScore()
    gray = 2 * torch.rand(20, 1, 128, 128, generator=torch.Generator().manual_seed(0)) - 1
    boxes = boxed(gray, lungs)
    assert 0 <= boxes.light.min() <= boxes.light.max() <= 1
    score.fit(torch.randn(20, generator=torch.Generator().manual_seed(1)), boxes)
    assert not (score.inside & score.outside).any()
    common = boxes.lungs[1, 0] > 0.5
    assert (score.inside == common).float().mean() > 0.98
    assert score.outside.any()
    assert score(torch.zeros(20), boxes).shape == (20,)
