"""The weights of the groups, nets that have not seen what they judge, and an atlas that is fitted to the end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from anomalib_cxr.functional.alignment import Rows
from anomalib_cxr.models.lung_atlas import fitting
from anomalib_cxr.models.lung_atlas.cross_fitting import draw_folds
from anomalib_cxr.models.lung_atlas.fitting import fit_atlas, fit_finders, fit_standard, weigh
from anomalib_cxr.models.lung_atlas.lesion_net import LesionFinder, LesionView
from anomalib_cxr.models.lung_atlas.torch_model import LungAtlasModel
from anomalib_cxr.models.lung_atlas.views import View

from .frames import draw_healthy

N_HEALTHY = 12


def make_model():
    return LungAtlasModel(n_folds=2, n_components=6, n_textures=6, n_dims=8, n_bank=16).eval()


@pytest.fixture(scope="module")
def view():
    """Return what an atlas sees of healthy images, that of each a little different."""
    draw = torch.Generator().manual_seed(0)
    fine, lungs = draw_healthy(N_HEALTHY, (96, 96)), draw_healthy(N_HEALTHY)
    rows = Rows(*(torch.rand(N_HEALTHY, 2, *shape, generator=draw) for shape in ((), (), (128,), (128,))))
    box = torch.zeros(N_HEALTHY, 2, 64, 64)
    box[:, 0] = 0.7 + 0.2 * torch.rand(N_HEALTHY, 1, 1, generator=draw)
    box[:, 0, 8:56, 8:28] = box[:, 0, 8:56, 36:56] = 0.2 + 0.2 * torch.rand(N_HEALTHY, 1, 1, generator=draw)
    box[:, 1, 8:56, 8:28] = box[:, 1, 8:56, 36:56] = 0.95
    found = torch.ones(N_HEALTHY, 2, dtype=torch.bool)
    return View(rows, found, lungs, fine, torch.ones_like(fine), box)


@pytest.fixture(scope="module")
def fit(view):
    """Fit an atlas to `view`, and return it with what was handed from part to part."""

    def run():
        model = make_model()
        handed = SimpleNamespace()
        calibrate, take_usual = model.calibration.fit, model.take_usual

        def keep_scores(scores, exposures):
            handed.scores, handed.exposures = scores, exposures
            calibrate(scores, exposures)

        def keep_places(places):
            handed.places = places
            take_usual(places)

        model.calibration.fit, model.take_usual = keep_scores, keep_places
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("anomalib_cxr.models.lung_atlas.lesion_training.BATCH", 6)
            before = torch.get_rng_state()
            fit_atlas(model, view, steps=2, seed=0)
            handed.drew_outside = not torch.equal(torch.get_rng_state(), before)
        return model, handed

    return run


@pytest.fixture(scope="module")
def fitted(fit):
    return fit()


class TestWeigh:
    @pytest.fixture
    def deviations(self):
        """Six scores of different spread that have something in common."""
        draw = torch.Generator().manual_seed(0)
        scores = torch.randn(300, 6, generator=draw) + torch.randn(300, 1, generator=draw)
        return scores * torch.tensor([1.0, 2, 1, 1, 3, 1])

    def test_the_sum_has_spread_1(self, deviations):
        assert (deviations @ weigh(deviations)).std().item() == pytest.approx(1, rel=1e-4)

    def test_the_nets_together_count_half_as_much_as_the_others(self, deviations):
        weighted = deviations * weigh(deviations)
        others, nets = weighted[:, :4].sum(dim=1).std(), weighted[:, 4:].sum(dim=1).std()
        assert (nets / others).item() == pytest.approx(0.5, rel=1e-4)

    def test_in_a_group_all_count_alike(self, deviations):
        weights = weigh(deviations)
        assert weights[:4].unique().numel() == weights[4:].unique().numel() == 1


class TestFinders:
    def test_each_image_is_judged_by_the_net_that_has_not_seen_it(self, view, monkeypatch):
        taught, judged = [], []

        class Spy:
            def __init__(self, frames, insides, paint, seed):
                taught.append(frames)
                assert len(frames) == len(insides)
                self.view = LesionView()

            def run(self, net, steps):
                assert steps == 7
                return net

        def take(finder, view, net, healthy):
            judged.append(healthy)
            finder.net.load_state_dict(net.state_dict())

        monkeypatch.setattr(fitting, "LesionTraining", Spy)
        monkeypatch.setattr(LesionFinder, "take", take)
        model, fold = make_model(), draw_folds(N_HEALTHY, 2, seed=0)
        found = fit_finders(model, view, fold, steps=7, seed=0)
        for number, (seen, unseen) in enumerate(zip(taught, judged, strict=True)):
            assert torch.equal(unseen, view.fine[fold == number])
            assert not any(torch.equal(one, other) for one in seen for other in unseen)
            assert len(seen) + len(unseen) == N_HEALTHY
        for number, frame in enumerate(view.fine):  # in their order
            alone = model.lesion_finders[int(fold[number])].score_all(frame[None])
            torch.testing.assert_close(found.scores[number], alone.scores[0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found.places[number], alone.places[0], atol=1e-4, rtol=1e-4)
        one, other = (finder.net.stem.weight for finder in model.lesion_finders)
        assert not torch.equal(one, other)


class TestAtlas:
    def test_healthy_images_score_0_by_1(self, fitted):
        model, handed = fitted
        scores = model.calibration(handed.scores, handed.exposures) @ model.weights
        assert model.calibration.fitted
        assert scores.mean().item() == pytest.approx(0, abs=1e-2)
        assert scores.std().item() == pytest.approx(1, abs=1e-2)

    def test_no_part_has_seen_what_the_calibration_is_told(self, fitted, view):
        """The parts, fitted to all, find these images healthier."""
        model, handed = fitted
        with torch.no_grad():
            seen = model.find(view).scores
        assert (seen[:, :4].mean(dim=0) < handed.scores[:, :4].mean(dim=0)).all()
        torch.testing.assert_close(handed.scores[:, 4:].mean(dim=0), torch.zeros(2), atol=1e-3, rtol=0)

    def test_usual_maps_are_the_means_of_healthy_ones(self, fitted):
        model, handed = fitted
        names = [*model.parts, "lesions"]
        assert [each.shape[1:] for each in handed.places] == [
            (1, 8, 10), (1, 8, 10), (1, 9, 10), (1, 16, 20), (1, 48, 48)
        ]  # fmt: skip
        for name, places in zip(names, handed.places, strict=True):
            torch.testing.assert_close(getattr(model, f"usual_{name}"), places.mean(dim=0, keepdim=True))

    def test_the_regions_are_those_of_healthy_people(self, fitted, view):
        model, _ = fitted
        assert torch.equal(model.inside, view.box[0, 1] > 0.5)
        assert model.outside.any()
        assert not (model.inside & model.outside).any()

    def test_the_same_seed_gives_the_same_atlas(self, fitted, fit, assert_same):
        """But for the segmenter, which is not fitted here, and whatever torch's own random numbers are."""
        states = (model.state_dict() for model, _ in (fit(), fitted))
        again, first = ({name: state[name] for name in state if not name.startswith("lungs.")} for state in states)
        assert_same(again, first)
        assert not fitted[1].drew_outside


def test_healthy_lungs_are_where_the_median_is(view):
    """Of an odd number, the middle one."""
    model, few = make_model(), Rows(*(each[:3] for each in view.rows))
    fit_standard(model, few)
    for known, found in zip(model.standard, few, strict=True):
        assert torch.equal(known[0], found.sort(dim=0).values[1])
