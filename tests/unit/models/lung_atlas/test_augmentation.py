"""Moved pictures: what stays the same, and how far the rest goes."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.functional.frames import stack_lungs, unstack_lungs
from anomalib_cxr.models.lung_atlas.augmentation import move, moved_copies, uniform

from .frames import draw_healthy

SIDE = 33


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def coordinates(count):
    """Return pictures of x and y, from -1 at the left and upper border to 1, `(count, 2, 33, 33)`."""
    at = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x, y]).expand(count, -1, -1, -1)


@pytest.fixture(scope="module")
def maps():
    """Moves of 400 pictures, `(400, 2, 3)`: least squares of where the inner pixels come from on where they are."""
    pictures = coordinates(400)
    inner = slice(8, -8)
    here = torch.cat([pictures[0, :, inner, inner].flatten(1), torch.ones(1, 17 * 17)]).T
    there = move(pictures, 1.0, draw())[..., inner, inner].flatten(2).transpose(1, 2)  # (400, 289, 2)
    return torch.linalg.lstsq(here.expand(400, -1, -1), there).solution.transpose(1, 2)


class TestMove:
    def test_scales_by_a_tenth(self, maps):
        scale = maps[:, :, :2].norm(dim=2)  # of x and y
        assert 0.9 <= scale.min() < 0.91
        assert 1.09 < scale.max() <= 1.1
        assert torch.corrcoef(scale.T)[0, 1].abs() < 0.2  # each by itself

    def test_turns_by_four_degrees(self, maps):
        turn = torch.atan2(-maps[:, 0, 1], maps[:, 0, 0])
        assert 0.065 < turn.abs().max() <= 0.0701
        torch.testing.assert_close(torch.atan2(maps[:, 1, 0], maps[:, 1, 1]), turn, atol=1e-4, rtol=0)

    def test_shifts_by_three_hundredths_of_the_side(self, maps):
        assert 0.055 < maps[:, :, 2].abs().max() <= 0.0601
        assert maps[:, :, 2].mean(dim=0).abs().max() < 0.01

    def test_less_by_less_strength_and_not_at_all_by_none(self):
        pictures = coordinates(50)
        far, near, none = (move(pictures, strength, draw()) - pictures for strength in (1.0, 0.5, 0.0))
        assert none.abs().max() < 1e-5
        assert 0.4 < near.abs().mean() / far.abs().mean() < 0.6

    def test_all_channels_alike_and_the_border_goes_on(self):
        pictures = torch.rand(4, 1, 16, 20, generator=draw(1)) + 1
        moved = move(torch.cat([pictures, 2 * pictures, torch.ones_like(pictures)], dim=1), 1.0, draw())
        torch.testing.assert_close(moved[:, 1], 2 * moved[:, 0])
        torch.testing.assert_close(moved[:, 2], torch.ones(4, 16, 20))
        assert not torch.allclose(moved[:, 0], pictures[:, 0], atol=0.1)


class TestMovedCopies:
    def test_of_few_frames_nine_each(self):
        frames = draw_healthy(3)
        copies = moved_copies(frames)
        assert copies.shape == (30, 1, 64, 80)
        assert torch.equal(copies[:3], frames)
        rounds = torch.unflatten(copies, 0, (10, 3))
        assert all(not torch.equal(rounds[one], rounds[other]) for one in range(10) for other in range(one))
        near = (rounds[1:, 0] - frames[0]).square().mean(dim=(1, 2, 3)).mean()
        assert near < (rounds[1:, 0] - frames[1]).square().mean(dim=(1, 2, 3)).mean()
        assert torch.equal(copies, moved_copies(frames))

    @pytest.mark.parametrize(("count", "n_copies"), [(250, 9), (1000, 2), (2500, 1), (2501, 0)])
    def test_of_many_frames_few(self, count, n_copies):
        assert len(moved_copies(torch.zeros(count, 1, 2, 2))) == (1 + n_copies) * count

    def test_each_lung_moves_by_itself_and_neither_reaches_over(self):
        twins = torch.rand(1, 1, 16, 10, generator=draw())
        left, right = stack_lungs(moved_copies(unstack_lungs(torch.cat([twins, twins])))[1:2])
        assert not torch.allclose(left, right, atol=0.01)
        halves = stack_lungs(moved_copies(torch.cat([torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)], dim=3)))
        assert torch.equal(halves.mean(dim=(1, 2, 3)).round(decimals=5), torch.tensor([0.0] * 10 + [1.0] * 10))


def test_uniform_fills_its_range():
    drawn = uniform(1000, -2, 3, draw())
    assert drawn.shape == (1000, 1, 1, 1)
    assert -2 <= drawn.min() < -1.95
    assert 2.95 < drawn.max() < 3
    assert abs(drawn.mean() - 0.5) < 0.15
