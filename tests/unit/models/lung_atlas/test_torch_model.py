"""From X-rays to scores and maps, by an atlas that was fitted to drawn chests."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.functional.alignment import Rows
from anomalib_cxr.models.base.exposure import LungCrop
from anomalib_cxr.models.lung_atlas.fitting import fit_standard
from anomalib_cxr.models.lung_atlas.torch_model import LungAtlasModel, LungViews

SIDE, N_HEALTHY = 128, 10


class Dark(nn.Module):
    """Calls lung what is dark."""

    def forward(self, gray):
        return torch.sigmoid((-0.2 - functional.avg_pool2d(gray, 9, stride=1, padding=4, count_include_pad=False)) * 40)


def draw_chests(count, seed=0):
    """Draw X-rays in [-1, 1] of bright tissue and two dark lungs with ribs, `(count, 1, 128, 128)`."""
    draw = torch.Generator().manual_seed(seed)
    chests = torch.full((count, 1, SIDE, SIDE), 0.6)
    rows = torch.arange(SIDE).reshape(-1, 1) / SIDE
    ribs = 0.1 * torch.sin(60 * rows + 6 * torch.rand(count, 1, 1, 1, generator=draw))
    for number, chest in enumerate(chests[:, 0]):
        top, left = (int(torch.randint(14, 22, (), generator=draw)) for _ in range(2))
        for lung in (left, left + 50):
            chest[top : top + 90, lung : lung + 36] = (ribs[number, 0] - 0.6)[top : top + 90]
    return chests + 0.03 * torch.randn(chests.shape, generator=draw)


def make_model():
    model = LungAtlasModel(SIDE, n_components=6, n_textures=6, n_dims=8, n_bank=16).eval()
    model.segmenter = Dark()
    return model


@pytest.fixture(scope="module")
def chests():
    return draw_chests(N_HEALTHY)


@pytest.fixture(scope="module")
def model(chests):
    """An atlas fitted to chests."""
    model = make_model()
    with torch.no_grad():
        view = model.preprocess(chests)
        for part in model.atlas_parts:
            part.fit(view.lungs)
        fit_standard(model, view.rows)
        model.fit_maps(model.score_parts(view).maps)
        scores = model.score_parts(view).scores
        model.exposure_adjustment.fit(scores, view.crop)
        model.combination.fit(model.exposure_adjustment(scores, view.crop))
    return model.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def others():
    return draw_chests(4, seed=1)


def test_sees_lungs_in_their_frames(model, others):
    view = model.preprocess(others)
    assert view.found.all()
    shapes = [each.shape[1:] for each in (*view[2:-1], *view.crop)]
    assert shapes == [(1, 64, 80), (1, 64, 64), (1, 64, 64)]
    for frames in (view.lungs, view.crop.gray):
        assert frames.min() >= 0
        assert frames.max() <= 1
    middle = view.lungs[..., 6:58, 6:34]
    assert middle.mean().item() == pytest.approx(0.2, abs=0.02)  # gray -0.6, counted from 0


def test_one_score_and_one_map_for_each(model, others):
    found = model(others)
    assert found.pred_score.shape == (4,)
    assert found.anomaly_map.shape == (4, 1, SIDE, SIDE)
    assert found.anomaly_map.min() >= 0


def test_the_score_combines_the_deviations(model, others):
    view = model.preprocess(others)
    scores = model.score_parts(view).scores
    assert scores.shape == (4, 5)
    expected = model.combination(model.exposure_adjustment(scores, view.crop))
    torch.testing.assert_close(model(others).pred_score, expected, atol=1e-3, rtol=1e-4)


def test_scores_are_those_of_the_parts(model, others):
    view = model.preprocess(others)
    found, parts = model.score_parts(view), [part(view.lungs) for part in model.atlas_parts]
    assert [part.score.shape for part in parts] == [(4, 2), (4,), (4,), (4,)]
    assert torch.equal(found.scores, torch.cat([part.score.reshape(4, -1) for part in parts], dim=1))
    for shown, part in zip(found.maps, parts, strict=True):
        assert torch.equal(shown, part.map)


def test_the_map_is_0_outside_the_lungs(model, others):
    """But for the margin of 6 % of a lung, here 5 rows and 2 columns, and what the segmenter's smoothing blurs."""
    noise = 0.5 * torch.randn(others.shape, generator=torch.Generator().manual_seed(2))  # unusual at every place
    where = model((others + noise).clamp(-1, 1)).anomaly_map[:, 0] > 0
    for chest, shown in zip(others[:, 0], where, strict=True):
        lung = functional.max_pool2d(chest[None], 5, stride=1, padding=2)[0] < -0.2  # without its outermost 2 pixels
        near = functional.max_pool2d((-chest[None] > 0.2).float(), 17, stride=1, padding=8)[0] > 0
        assert not shown[~near].any()
        assert shown[lung].float().mean() > 0.5
        assert not near.all()


def test_the_map_counts_in_healthy_lungs(model, chests):
    """Its deviations are 0 on average over the images that it was fitted to, each part's and the mean of all."""
    maps = model.score_parts(model.preprocess(chests)).maps
    for healthy, part_maps in zip(model.healthy_part_maps, maps, strict=True):
        deviations = healthy.deviations(part_maps.sqrt())
        torch.testing.assert_close(deviations.mean(dim=0), torch.zeros(deviations.shape[1:]), atol=2e-2, rtol=0)
    joined = model._combine(maps)
    assert joined.shape == (N_HEALTHY, 1, 96, 96)
    torch.testing.assert_close(joined.mean(dim=0), torch.zeros(1, 96, 96), atol=1e-2, rtol=0)
    torch.testing.assert_close(model.healthy_maps.mean, joined.mean(dim=0, keepdim=True))


def test_nothing_is_marked_in_healthy_lungs(model, others):
    assert (model(others).anomaly_map > 0.5).float().mean() < 0.01


def test_a_lesion_raises_score_and_map(model, others):
    sick = others.clone()
    sick[..., 60:74, 30:44] += 0.5
    before, after = model(others), model(sick)
    assert (after.pred_score > before.pred_score).all()
    rise = (after.anomaly_map - before.anomaly_map)[:, 0]
    assert (rise[:, 60:74, 30:44].mean(dim=(1, 2)) > 5 * rise.abs().mean(dim=(1, 2))).all()
    left, right = rise[..., :64].abs().sum(), rise[..., 64:].abs().sum()
    assert left > 2.5 * right  # the scale brings strong deviations near each other


@pytest.mark.parametrize(("picture", "found"), [("no lung", [False, False]), ("one lung", [True, False])])
def test_the_place_of_healthy_lungs_stands_in(model, others, picture, found):
    images = others[:1].clone()
    images[..., 64 if picture == "one lung" else 0 :] = 0.6
    view = model.preprocess(images)
    assert view.found.tolist() == [found]
    for lung, is_found in enumerate(found):
        for known, used in zip(model.standard, view.rows, strict=True):
            assert torch.equal(known[:, lung], used[:, lung]) is not is_found
    answer = model(images)
    assert answer.pred_score.isfinite().all()
    assert answer.anomaly_map.isfinite().all()


def test_colors_that_are_alike_and_company_change_nothing(model, others):
    found, colored, alone = model(others), model(others.expand(-1, 3, -1, -1)), model(others[2:3])
    torch.testing.assert_close(colored.pred_score, found.pred_score, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(alone.pred_score, found.pred_score[2:3], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(alone.anomaly_map, found.anomaly_map[2:3], atol=1e-2, rtol=1e-2)


def test_it_travels_with_the_weights(model, others):
    other = make_model()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(others).pred_score, model(others).pred_score)


def make_views(*numbers):
    """Make views of images in which all values are the image's number."""

    def filled(*shape):
        return torch.stack([torch.full(shape, float(number)) for number in numbers])

    rows = Rows(filled(2), filled(2), filled(2, 5), filled(2, 5))
    return LungViews(rows, filled(2), filled(1, 4, 6), LungCrop(filled(1, 2, 2), filled(1, 2, 2)))


def numbers_of(view):
    """Return the images' numbers, on which all of their views agree."""
    tensors = (*view.rows, *view[1:-1], *view.crop)
    found = [[set(image.flatten().tolist()) for image in each] for each in tensors]
    assert all(each == found[0] for each in found)
    return [int(*image) for image in found[0]]


def test_views_concatenated_one_after_the_other():
    assert numbers_of(LungViews.concatenate([make_views(3, 1), make_views(7), make_views(2, 9, 4)])) == [
        3,
        1,
        7,
        2,
        9,
        4,
    ]


@pytest.mark.parametrize("most", [30, 31])
def test_few_are_all_kept(most):
    view = make_views(*range(30))
    assert view.sample(most, seed=0) is view


def test_of_many_a_sample_is_kept_in_order():
    view = make_views(*range(30))
    kept = numbers_of(view.sample(10, seed=0))
    assert len(kept) == 10
    assert kept == sorted(set(kept))
    assert numbers_of(view.sample(10, seed=0)) == kept
    assert numbers_of(view.sample(10, seed=1)) != kept
    often = [number for seed in range(60) for number in numbers_of(view.sample(10, seed))]
    assert all(8 <= often.count(number) <= 34 for number in range(30))  # 20 expected, of standard deviation 3.7
