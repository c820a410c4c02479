"""Cross-fitted scores, folds, and a fitted atlas."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from anomalib_cxr.functional.alignment import Rows
from anomalib_cxr.models.base.exposure import LungCrop
from anomalib_cxr.models.lung_atlas.fitting import cross_fit, draw_folds, fit_atlas, fit_standard
from anomalib_cxr.models.lung_atlas.parts import AtlasPart, PartScores, score_in_batches
from anomalib_cxr.models.lung_atlas.torch_model import LungAtlasModel, LungViews

from .frames import draw_healthy

N_HEALTHY = 12


def make_model():
    return LungAtlasModel(n_components=6, n_textures=6, n_dims=8, n_bank=16).eval()


@pytest.fixture(scope="module")
def view():
    """Return views of healthy images, each a little different."""
    draw = torch.Generator().manual_seed(0)
    rows = Rows(*(torch.rand(N_HEALTHY, 2, *shape, generator=draw) for shape in ((), (), (128,), (128,))))
    gray, inside = (
        (0.7 + 0.2 * torch.rand(N_HEALTHY, 1, 1, 1, generator=draw)).expand(-1, 1, 64, 64).clone(),
        (torch.zeros(N_HEALTHY, 1, 64, 64)),
    )
    gray[..., 8:56, 8:28] = gray[..., 8:56, 36:56] = 0.2 + 0.2 * torch.rand(N_HEALTHY, 1, 1, 1, generator=draw)
    inside[..., 8:56, 8:28] = inside[..., 8:56, 36:56] = 0.95
    found = torch.ones(N_HEALTHY, 2, dtype=torch.bool)
    return LungViews(rows, found, draw_healthy(N_HEALTHY), LungCrop(gray, inside))


@pytest.fixture(scope="module")
def fit(view):
    """Fit an atlas to `view`, and return it with what was handed from part to part."""

    def run():
        model = make_model()
        handed = SimpleNamespace()
        adjust, set_maps = model.exposure_adjustment.fit, model.fit_maps

        def keep_scores(scores, crops):
            handed.scores, handed.crops = scores, crops
            adjust(scores, crops)

        def keep_maps(maps):
            handed.maps = maps
            set_maps(maps)

        model.exposure_adjustment.fit, model.fit_maps = keep_scores, keep_maps
        before = torch.get_rng_state()
        fit_atlas(model, view, n_folds=2, seed=0)
        handed.drew_outside = not torch.equal(torch.get_rng_state(), before)
        return model, handed

    return run


@pytest.fixture(scope="module")
def fitted(fit):
    return fit()


class Remembering(AtlasPart):
    """Scores a frame by its own gray value, and marks in the map whether it was fitted to it."""

    grid = (1, 1)

    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(0)
        self.sizes = []

    def fit(self, frames):
        self.seen = frames.flatten()

    def forward(self, frames):
        self.sizes.append(len(frames))
        return PartScores(frames.flatten(), torch.isin(frames, self.seen).to(frames.dtype))


@pytest.fixture
def frames():
    """Frames of one pixel, each of its own value."""
    return torch.arange(150.0).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("n_folds", [2, 4])
def test_no_frame_is_scored_by_a_part_that_has_seen_it(frames, n_folds):
    part = Remembering()
    found = cross_fit(part, frames, draw_folds(150, n_folds, seed=0))
    assert not found.map.any()
    assert torch.equal(found.score, frames.flatten())  # in their order
    assert torch.equal(part.seen, frames.flatten())
    assert part.sizes == []  # it has scored none; copies of it have


def test_frames_are_scored_some_at_a_time(frames):
    part = Remembering()
    part.fit(frames[:100])
    found = score_in_batches(part, frames)
    assert part.sizes == [64, 64, 22]
    assert torch.equal(found.score, frames.flatten())
    assert found.map.sum() == 100


def test_scores_have_no_gradient(frames):
    assert not cross_fit(Remembering(), frames.clone().requires_grad_(), draw_folds(150, 2, seed=0)).score.requires_grad


class TestFolds:
    @pytest.mark.parametrize(("count", "n_folds"), [(150, 4), (61, 3), (8, 8)])
    def test_are_of_nearly_the_same_size(self, count, n_folds):
        sizes = draw_folds(count, n_folds, seed=3).bincount()
        assert len(sizes) == n_folds
        assert sizes.sum() == count
        assert sizes.max() - sizes.min() <= 1

    def test_depend_on_the_seed_alone(self):
        torch.manual_seed(0)
        first = draw_folds(60, 4, seed=1)
        torch.manual_seed(1)
        assert torch.equal(draw_folds(60, 4, seed=1), first)
        assert not torch.equal(draw_folds(60, 4, seed=2), first)
        assert not torch.equal(first, torch.arange(60) % 4)


class TestAtlas:
    def test_healthy_images_score_0_by_1(self, fitted):
        model, handed = fitted
        scores = model.combination(model.exposure_adjustment(handed.scores, handed.crops))
        assert model.exposure_adjustment.fitted
        assert scores.mean().item() == pytest.approx(0, abs=1e-2)
        assert scores.std().item() == pytest.approx(1, abs=1e-2)

    def test_scores_of_the_exposure_adjustment_are_cross_fitted(self, fitted, view):
        """The parts, fitted to all, find these images healthier."""
        model, handed = fitted
        with torch.no_grad():
            seen = model.score_parts(view).scores
        errors = [0, 2, 3, 4]  # the contrast of spots does not follow the error
        assert (seen[:, errors].mean(dim=0) < handed.scores[:, errors].mean(dim=0)).all()

    def test_maps_are_learned_from_cross_fitted_ones(self, fitted):
        model, handed = fitted
        assert [each.shape[1:] for each in handed.maps] == [(1, 16, 20), (1, 16, 20), (1, 9, 10), (1, 16, 20)]
        for healthy, maps in zip(model.healthy_part_maps, handed.maps, strict=True):
            assert healthy.fitted
            torch.testing.assert_close(healthy.mean, maps.sqrt().mean(dim=0, keepdim=True))
        assert model.healthy_maps.fitted

    def test_the_regions_are_those_of_healthy_people(self, fitted, view):
        model, _ = fitted
        assert torch.equal(model.exposure_adjustment.inside, view.crop.lungs[0, 0] > 0.5)
        assert model.exposure_adjustment.outside.any()
        assert not (model.exposure_adjustment.inside & model.exposure_adjustment.outside).any()

    def test_the_same_seed_gives_the_same_atlas(self, fitted, fit, assert_same):
        """But for the segmenter, which is not fitted here, and whatever torch's own random numbers are."""
        states = (model.state_dict() for model, _ in (fit(), fitted))
        again, first = ({name: state[name] for name in state if not name.startswith("segmenter.")} for state in states)
        assert_same(again, first)
        assert not fitted[1].drew_outside


def test_healthy_lungs_are_where_the_median_is(view):
    """Of an odd number, the middle one."""
    model, few = make_model(), Rows(*(each[:3] for each in view.rows))
    fit_standard(model, few)
    for known, found in zip(model.standard, few, strict=True):
        assert torch.equal(known[0], found.sort(dim=0).values[1])
