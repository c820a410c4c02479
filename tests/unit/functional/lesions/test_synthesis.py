"""What all kinds of lesions have in common, and which of them an image gets."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch.nn import functional

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional.lesions import KINDS, add_lesions, gray_levels, synthesis

each_kind = pytest.mark.parametrize("kind", KINDS)
OPACITIES = ("patch", "nodules", "miliary", "effusion", "streak", "diffuse")


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def painted(kind, lungs, inside, seed=0):
    return KINDS[kind](lungs, inside, gray_levels(lungs, inside), drawn(seed))


@pytest.fixture
def steps(monkeypatch):
    """Replace each kind by one that makes an image brighter by 0.01, and return the names of those chosen."""
    chosen = []

    def step(kind):
        return lambda lungs, *_: (chosen.append(kind), lungs + 0.01)[1]

    monkeypatch.setattr(synthesis, "KINDS", {kind: step(kind) for kind in KINDS})
    return chosen


@each_kind
@pytest.mark.parametrize("size", [(96, 96), (48, 80), (80, 48)])
def test_a_lesion_changes_the_lungs(chest, kind, size):
    lungs, inside = chest(size)
    change = (painted(kind, lungs, inside) - lungs).abs()
    assert change.isfinite().all()
    assert ((change * inside).amax(dim=(1, 2, 3)) > 1e-3).sum() >= 4  # a nodule may be smaller than a pixel
    assert (change * inside).sum() / inside.sum() > (change * (1 - inside)).sum() / (1 - inside).sum()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "warp"])  # which moves the chest wall, too
def test_nothing_changes_far_from_the_lungs(chest, kind):
    lungs, inside = chest()
    near = functional.max_pool2d(inside, 13, stride=1, padding=6)  # a sixteenth of the height
    torch.testing.assert_close(painted(kind, lungs, inside) * (1 - near), lungs * (1 - near))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "warp"])
def test_without_lungs_nothing_changes(chest, kind):
    lungs, inside = chest()
    torch.testing.assert_close(painted(kind, lungs, 0 * inside), lungs)


@pytest.mark.parametrize("kind", OPACITIES)
def test_opacities_only_brighten_up_to_the_tissue(chest, kind):
    lungs, inside = chest()
    result, tissue = painted(kind, lungs, inside), gray_levels(lungs, inside).tissue
    assert (result >= lungs).all()
    assert (result <= torch.maximum(lungs, tissue) + 1e-6).all()


def test_lucency_only_darkens(chest):
    lungs, inside = chest()
    assert (painted("lucency", lungs, inside) <= lungs).all()


@each_kind
def test_an_image_does_not_depend_on_the_others_but_for_cut_and_paste(chest, kind):
    lungs, inside = chest()
    other = torch.cat([lungs[:1].flip(2, 3) ** 2, lungs[1:]])
    same = [torch.equal(*each) for each in zip(*(painted(kind, each, inside) for each in (lungs, other)), strict=True)]
    assert same == [False, kind != "cut_paste", True, True, True, True]


def test_same_seed_same_lesions(chest):
    lungs, inside = chest()
    first, again, other = (add_lesions(lungs, inside, drawn(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_given_frames_stay_and_the_result_is_in_range(chest):
    lungs, inside = chest()
    before = lungs.clone()
    result = torch.stack([add_lesions(lungs, inside, drawn(seed)) for seed in range(3)])
    assert torch.equal(lungs, before)
    assert 0 <= result.min() < result.max() <= 1


def test_a_share_of_the_images_is_painted(chest):
    lungs, inside = chest((16, 16), count=300)
    same = (add_lesions(lungs, inside, drawn(), kinds=["diffuse"]) == lungs).flatten(1).all(dim=1)
    assert binomtest(int((~same).sum()), 300, 0.8).pvalue > 1e-3
    assert torch.equal(add_lesions(lungs, inside, drawn(), share=0.0), lungs)


@pytest.mark.parametrize("most", [1, 3])
def test_an_image_gets_one_to_most_lesions(chest, steps, most):
    lungs, inside = chest((16, 16), count=400)
    change = add_lesions(lungs, inside, drawn(), share=1.0, most=most) - lungs
    count = (change[:, 0, 0, 0] / 0.01).round()
    assert set(count.tolist()) == set(range(1, most + 1))
    assert count.mean() == pytest.approx(1 + 0.55 * (most - 1), abs=0.15)
    assert set(steps) <= set(KINDS)


def test_patches_are_twice_as_likely_as_any_other_kind(chest, steps):
    frame, generator = chest((8, 8), count=1), drawn()
    for _ in range(400):
        add_lesions(*frame, generator, share=1.0, most=1)
    for kind in KINDS:
        assert binomtest(steps.count(kind), 400, (1 + (kind == "patch")) / 12).pvalue > 1e-3


def test_weights_say_how_often_a_kind_is_chosen(chest, steps):
    frame, generator = chest((8, 8), count=1), drawn()
    for _ in range(200):
        add_lesions(*frame, generator, share=1.0, most=1, kinds=["warp", "ring"], weights={"warp": 3, "ring": 1})
    assert set(steps) == {"warp", "ring"}
    assert binomtest(steps.count("warp"), 200, 0.75).pvalue > 1e-3


def test_unknown_kinds_are_refused_with_the_nearest_names(chest):
    with pytest.raises(SettingError, match=r"kinds = \['nodule', 'rings'\][^$]*\(nearest: .*nodules.*ring"):
        add_lesions(*chest(), drawn(), kinds=["nodule", "patch", "rings"])


def test_all_wrong_settings_are_named_at_once(chest):
    with pytest.raises(SettingError, match=r"weights = \{'ring': 0\}, share = 1.5, most = 0\n") as error:
        add_lesions(*chest(), drawn(), kinds=["ring"], weights={"ring": 0}, share=1.5, most=0)
    assert error.value.expected == "weights above 0 for each kind, share in [0, 1], most >= 1"


def test_no_kind_at_all_is_refused(chest):
    with pytest.raises(SettingError, match=r"kinds = \[\]\n  expected: kinds at least one of patch, nodules"):
        add_lesions(*chest(), drawn(), kinds=[])
