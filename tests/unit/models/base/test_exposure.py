"""The regression against scikit-learn's, and adjusted scores against what they are to be."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from anomalib_cxr.models.base.exposure import RIDGE, ExposureAdjustment, crop_lungs

N = 150


@pytest.fixture(scope="module")
def crops():
    """Lungs of the same shape on images of different exposures; one image lacks a part of a lung."""
    draw = torch.Generator().manual_seed(0)
    lungs = torch.zeros(N, 1, 128, 128)
    lungs[..., 24:104, 16:56] = lungs[..., 24:104, 72:112] = 0.9
    lungs[0, ..., 64:104, 16:56] = 0
    light = torch.rand(N, 1, 128, 128, generator=draw) * (0.3 + 0.5 * torch.rand(N, 1, 1, 1, generator=draw))
    light = light + lungs * 0.2 * torch.rand(N, 1, 1, 1, generator=draw)
    return crop_lungs(2 * light.clamp(0, 1) - 1, lungs)


@pytest.fixture(scope="module")
def covariates(crops):
    adjustment = ExposureAdjustment(2)
    adjustment.fit(torch.zeros(N, 2), crops)  # for the regions
    return adjustment.covariates(crops)


@pytest.fixture(scope="module")
def scores(covariates):
    draw = torch.Generator().manual_seed(0)
    slopes = torch.tensor([[2.0, 0.0], [0.5, -1.0], [0.0, 0.3]])
    standard = (covariates - covariates.mean(dim=0)) / covariates.std(dim=0)
    return 4 + standard @ slopes + 0.2 * torch.randn(N, 2, generator=draw)


@pytest.fixture(scope="module")
def adjustment(scores, crops):
    adjustment = ExposureAdjustment(2)
    adjustment.fit(scores, crops)
    return adjustment


def test_takes_off_what_scikit_learns_ridge_expects(scores, crops, covariates, adjustment):
    x, y = covariates.double().numpy(), scores.double().numpy()
    scaler = StandardScaler().fit(x)
    residual = y - Ridge(alpha=RIDGE).fit(scaler.transform(x), y).predict(scaler.transform(x))
    expected = torch.from_numpy(residual / residual.std(axis=0)).float()
    torch.testing.assert_close(adjustment(scores, crops), expected, atol=1e-3, rtol=0)


def test_healthy_scores_no_longer_follow_the_exposure(scores, crops, covariates, adjustment):
    found = adjustment(scores, crops)
    torch.testing.assert_close(found.std(dim=0, correction=0), torch.ones(2), atol=1e-3, rtol=0)
    together = torch.corrcoef(torch.cat([found, covariates], dim=1).T)
    assert together[:2, 2:].abs().max() < 0.35  # of what the ridge shrinks, something is left
    before = torch.corrcoef(torch.cat([scores, covariates], dim=1).T)
    assert before[:2, 2:].abs().max() > 0.8


def test_it_travels_with_the_weights(scores, crops, adjustment):
    other = ExposureAdjustment(2)
    assert not other.fitted
    other.load_state_dict(adjustment.state_dict())
    assert other.fitted
    assert torch.equal(other(scores, crops), adjustment(scores, crops))


def test_alike_exposures_and_scores_give_no_division_by_zero():
    crops = crop_lungs(torch.zeros(60, 1, 64, 64), torch.ones(60, 1, 64, 64))
    adjustment = ExposureAdjustment(1)
    adjustment.fit(torch.ones(60, 1), crops)
    assert adjustment(torch.ones(60, 1), crops).isfinite().all()


def test_the_regions_are_those_of_healthy_people(crops, adjustment):
    """One image lacks a part; the region is that of nine of ten."""
    assert 0 <= crops.gray.min() <= crops.gray.max() <= 1
    assert not (adjustment.inside & adjustment.outside).any()
    common = crops.lungs[1, 0] > 0.5
    assert (adjustment.inside == common).float().mean() > 0.98
    assert adjustment.outside.any()
