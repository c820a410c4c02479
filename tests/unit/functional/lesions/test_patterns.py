"""Lesions with a shape of their own."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import label

from anomalib_cxr.functional.lesions import drawing, gray_levels
from anomalib_cxr.functional.lesions import kinds as patterns

COUNT = 20
SIZES = [(96, 96), (64, 112), (112, 64)]
each_size = pytest.mark.parametrize("size", SIZES)


def change(paint, lungs, inside, generator):
    return paint(lungs, inside, gray_levels(lungs, inside), generator) - lungs


def spread(weights):
    """Return the standard deviations of positions in pixels along the principal axes, `(B, 2)`, the smaller first."""
    y, x = torch.meshgrid(*(torch.arange(float(side)) for side in weights.shape[-2:]), indexing="ij")
    share = weights[:, 0] / weights.sum(dim=(1, 2, 3)).reshape(-1, 1, 1)
    at = torch.stack([y, x]) - torch.einsum("bhw,chw->bc", share, torch.stack([y, x])).reshape(-1, 2, 1, 1)
    return torch.linalg.eigvalsh(torch.einsum("bhw,bchw,bdhw->bcd", share, at, at)).sqrt()


@each_size
def test_a_nodule_is_round(flat, in_the_middle, monkeypatch, generator, size):
    in_the_middle(patterns)
    monkeypatch.setattr(patterns, "choose", lambda *_: 1)
    nodules = change(patterns._add_nodules, *flat(size, COUNT), generator)
    smaller, larger = spread(nodules).T
    torch.testing.assert_close(smaller, larger, rtol=0.02, atol=0)
    assert (larger < 0.1 * size[0]).all()


def test_there_are_as_many_nodules_as_drawn(flat, monkeypatch, generator):
    monkeypatch.setattr(patterns, "choose", lambda *_: 4)
    corners = torch.tensor([0.3, 0.3, 0.7, 0.7]), torch.tensor([0.3, 0.7, 0.3, 0.7])
    monkeypatch.setattr(
        patterns, "sample_centers", lambda *_: [each.reshape(1, 4, 1, 1).expand(COUNT, -1, 1, 1) for each in corners]
    )
    monkeypatch.setattr(patterns, "CLUSTERED", 0)
    nodules = change(patterns._add_nodules, *flat(count=COUNT), generator)
    found = [label(each[0].numpy() > each.max().item() / 3)[1] for each in nodules]
    assert max(found) == 4
    monkeypatch.setattr(patterns, "CLUSTERED", 1)
    close = change(patterns._add_nodules, *flat(count=COUNT), generator)
    assert spread(close).mean() == pytest.approx(spread(nodules).mean().item() * patterns.CLUSTER, rel=0.15)


@each_size
def test_a_ring_is_bright_around_a_dark_middle(flat, in_the_middle, generator, size):
    in_the_middle(drawing)
    rings = change(patterns._add_ring, *flat(size, COUNT), generator)[:, 0]
    rows, columns = (slice(side // 2 - 1, side // 2 + 1) for side in size)
    middle = rings[:, rows, columns].amax(dim=(1, 2))
    assert (middle < 0.03).all()
    assert (rings.amax(dim=(1, 2)) > middle + 0.05).all()
    assert middle.mean() < 0


def test_granules_are_many_and_small(flat, generator):
    dots = change(patterns._add_miliary, *flat((128, 128), COUNT), generator)
    counts = [label(each[0].numpy() > each.max().item() / 2)[1] for each in dots]
    assert sorted(counts)[COUNT // 2] > 60


@each_size
def test_streaks_run_in_one_direction(flat, generator, size):
    streaks = change(patterns._add_streak, *flat(size, COUNT), generator)[:, 0]
    down, across = streaks.diff(dim=1)[:, :, 1:], streaks.diff(dim=2)[:, 1:]
    slopes = torch.stack([down, across]).flatten(2)
    along, over = torch.linalg.eigvalsh(torch.einsum("cbn,dbn->bcd", slopes, slopes)).T  # of the structure tensor
    assert (over / along).median() > 3
    assert 0.2 < (down.square().sum() / across.square().sum()) < 5  # in any direction
