"""Frames against shapes whose ends are known, and warps against closed forms and their own inverse."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.functional.alignment import (
    MIN_ROW_WIDTH,
    Box,
    Rows,
    find_box,
    find_rows,
    mass_quantile,
    split_lungs,
    standard_rows,
)
from anomalib_cxr.functional.frames import MARGIN, box_grid, from_box, from_rows, rows_grid, to_frame

SIDE = 80


def centers(count=SIDE):
    return (torch.arange(count) + 0.5) / count


def slanted(dtype=torch.float32):
    """Two lungs from 0.2 to 0.8 whose edges are lines in y: the left one leans out, the right one in."""
    y = centers().reshape(1, 1, -1).to(dtype)
    lean = 0.1 * (y - 0.5)
    left, right = torch.cat([0.15 - lean, 0.55 + lean], dim=1), torch.cat([0.42 - lean, 0.85 + lean], dim=1)
    return Rows(torch.full((1, 2), 0.2, dtype=dtype), torch.full((1, 2), 0.8, dtype=dtype), left, right)


def drawn(rows):
    """The lungs as a probability map, each pixel by its share that is covered."""
    x, y = centers().reshape(1, 1, 1, -1), centers().reshape(1, 1, -1, 1)
    share = [((edge - x) * sign * SIDE + 0.5).clamp(0, 1) for edge, sign in
             ((rows.left.unsqueeze(3), -1), (rows.right.unsqueeze(3), 1))]  # fmt: skip
    tall = (y > rows.top[..., None, None]) & (y < rows.bottom[..., None, None])
    return (share[0] * share[1] * tall).amax(dim=1, keepdim=True)


def smooth_picture():
    """Waves that are much longer than a pixel."""
    y, x = centers().reshape(-1, 1), centers().reshape(1, -1)
    return (0.5 + 0.25 * torch.sin(7 * x + 3 * y) + 0.25 * torch.cos(5 * y - 2 * x))[None, None]


class TestMassQuantile:
    @pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.98])
    def test_of_an_even_profile(self, share):
        profile = torch.zeros(50)
        profile[10:40] = 0.7
        assert mass_quantile(profile, share).item() == pytest.approx(0.2 + 0.6 * share, abs=1e-5)

    def test_of_a_falling_profile(self):
        profile = 1 - centers(1000)  # its mass up to t is 2 t - t^2
        assert mass_quantile(profile, 0.75).item() == pytest.approx(0.5, abs=1e-3)

    def test_without_mass(self):
        assert mass_quantile(torch.zeros(3, 10), 0.5).tolist() == [1, 1, 1]


class TestBox:
    def test_of_rectangles_is_exact(self):
        lungs = torch.zeros(2, 1, SIDE, SIDE)
        lungs[0, 0, 16:64, 8:72] = 0.9
        lungs[1, 0, 20:40, 30:50] = 1
        for side, expected in zip(find_box(lungs), ((0.2, 0.25), (0.8, 0.5), (0.1, 0.375), (0.9, 0.625)), strict=True):
            torch.testing.assert_close(side, torch.tensor(expected), atol=1e-5, rtol=0)

    def test_a_speck_and_what_is_doubtful_do_not_move_it(self):
        lungs = torch.zeros(1, 1, SIDE, SIDE)
        lungs[..., 16:64, 8:72] = 1
        clean = torch.stack(find_box(lungs))
        lungs[..., 2:6, 76:79] = 1  # 12 pixels of 3084
        lungs[..., 70:, :] = 0.49
        assert (torch.stack(find_box(lungs)) - clean).abs().max() < 0.02

    def test_is_the_whole_image_where_nothing_is_found(self):
        found = find_box(torch.full((1, 1, SIDE, SIDE), 0.4))
        assert [side.item() for side in found] == [0, 1, 0, 1]

    def test_may_touch_the_border(self):
        found = find_box(torch.ones(1, 1, SIDE, SIDE))
        torch.testing.assert_close(torch.stack(found).flatten(), torch.tensor([0.0, 1.0, 0.0, 1.0]), atol=1e-5, rtol=0)

    def test_its_frame_shows_a_ramp_as_a_ramp(self):
        box = Box(*(torch.tensor([side]) for side in (0.25, 0.75, 0.3, 0.7)))
        ramp = centers().reshape(1, 1, 1, -1).expand(1, 1, SIDE, SIDE)
        shown = to_frame(ramp, box_grid(box, (40, 40)))
        across = centers(40) * (1 + 2 * MARGIN) - MARGIN
        torch.testing.assert_close(shown[0, 0], (0.3 + 0.4 * across).expand(40, 40))


class TestRows:
    def test_finds_the_edges_of_slanted_lungs(self):
        rows = slanted()
        found = find_rows(drawn(rows), standard_rows(SIDE))
        assert (found.top - rows.top).abs().max() < 0.01
        assert (found.bottom - rows.bottom).abs().max() < 0.01
        inside = slice(20, 60)  # the smoothing bends the edges at the ends
        for side, expected in ((found.left, rows.left), (found.right, rows.right)):
            assert (side - expected)[..., inside].abs().max() < 0.01

    def test_a_speck_does_not_move_them(self):
        lungs = drawn(slanted())
        clean = find_rows(lungs, standard_rows(SIDE))
        lungs[..., 2:5, 38:41] = 1
        speckled = find_rows(lungs, standard_rows(SIDE))
        for side, expected in ((0, 0.02), (1, 0.02)):
            assert (speckled[side] - clean[side]).abs().max() < expected
        for side in (2, 3):
            assert (speckled[side] - clean[side])[..., 16:64].abs().max() < 0.02

    @pytest.mark.parametrize("lost", [0, 1])
    def test_a_lung_that_is_missing_is_the_standard_one(self, lost):
        one = split_lungs(drawn(slanted()))[:, [1 - lost]]
        for side, standard in zip(find_rows(one, standard_rows(SIDE)), standard_rows(SIDE), strict=True):
            assert torch.equal(side[:, lost], standard[:, lost])
            assert not torch.equal(side[:, 1 - lost], standard[:, 1 - lost])

    def test_both_are_the_standard_ones_where_nothing_is_found(self):
        for side, standard in zip(find_rows(torch.zeros(1, 1, SIDE, SIDE), standard_rows(SIDE)), standard_rows(SIDE),
                                  strict=True):  # fmt: skip
            assert torch.equal(side, standard)

    def test_lungs_that_touch_the_border_end_there(self):
        lungs = torch.zeros(1, 1, SIDE, SIDE)
        lungs[..., :36] = lungs[..., 44:] = 1
        found = find_rows(lungs, standard_rows(SIDE))
        torch.testing.assert_close(found.top, torch.zeros(1, 2), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.bottom, torch.ones(1, 2), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.left[0, 0], torch.zeros(SIDE), atol=1e-4, rtol=0)
        torch.testing.assert_close(found.right[0, 1], torch.ones(SIDE), atol=1e-4, rtol=0)
        frame = to_frame(torch.rand(1, 1, SIDE, SIDE), rows_grid(found, (20, 20)))
        assert frame.isfinite().all()

    def test_no_row_is_narrower_than_its_share_of_the_lung(self):
        lungs = drawn(slanted())
        lungs[..., 16:24, :20] = 0  # an apex of a few pixels
        found = find_rows(lungs, standard_rows(SIDE))
        width = found.right - found.left
        widest = width.amax(dim=2, keepdim=True)
        assert (width >= 0.95 * MIN_ROW_WIDTH * widest).all()

    def test_the_frame_shows_each_lung_from_edge_to_edge(self):
        """In a picture whose gray says how far across its lung a place lies, each row of the frame is the same ramp."""
        rows = slanted()
        x = centers().reshape(1, 1, 1, -1)
        across = (x - rows.left.unsqueeze(3)) / (rows.right - rows.left).unsqueeze(3)  # (1, 2, H, W)
        expected = (centers(20) * (1 + 2 * MARGIN) - MARGIN).expand(40, 20)
        for lung, half in enumerate(to_frame(across, rows_grid(rows, (40, 40))).chunk(2, dim=3)):
            torch.testing.assert_close(half[0, lung], expected, atol=2e-3, rtol=0)


class TestWayBack:
    def test_from_the_box(self):
        box = Box(*(torch.tensor([side]) for side in (0.2, 0.8, 0.15, 0.85)))
        picture = smooth_picture()
        back = from_box(to_frame(picture, box_grid(box, (96, 96))), box, (SIDE, SIDE))
        inside = to_frame(torch.ones_like(picture), box_grid(box, (96, 96)))
        shown = from_box(inside, box, (SIDE, SIDE)) > 0
        assert 0.4 < shown.float().mean() < 0.7
        assert (back - picture)[shown].abs().max() < 0.01
        assert (back[~shown] == 0).all()

    def test_from_the_rows(self):
        rows, picture = slanted(), smooth_picture()
        back = from_rows(to_frame(picture, rows_grid(rows, (96, 96))), rows, (SIDE, SIDE))
        lungs = drawn(rows) == 1
        assert (back - picture)[lungs].abs().max() < 0.01
        assert (back[..., :8, :] == 0).all()
        assert (back[..., 37:42] == 0)[..., 30:50, :].all()

    def test_the_standard_lungs_are_upright_and_apart(self):
        rows = standard_rows(10)
        assert (rows.right[:, 0] < rows.left[:, 1]).all()
        assert (rows.top < rows.bottom).all()
        assert rows.left.shape == (1, 2, 10)
