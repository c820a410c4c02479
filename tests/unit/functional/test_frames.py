"""Regions of a frame of rows against the grid that lays it over the lungs."""

from __future__ import annotations

import torch

from anomalib_cxr.functional.alignment import find_rows, standard_rows
from anomalib_cxr.functional.frames import frame_lung_mask, rows_grid, stack_lungs, to_frame, unstack_lungs


def test_inside_is_where_the_frame_shows_lung():
    lungs = torch.zeros(1, 1, 200, 200)
    lungs[..., 40:160, 20:90] = lungs[..., 40:160, 110:180] = 1
    shown = to_frame(lungs, rows_grid(find_rows(lungs, standard_rows(200)), (64, 80)))[0, 0] > 0.5
    assert (shown.float() == frame_lung_mask((64, 80), lungs)).float().mean() > 0.97
    assert frame_lung_mask((64, 80), lungs.double()).dtype == torch.float64


def test_halves_do_not_reach_over():
    frames = torch.zeros(2, 1, 8, 8)
    frames[0, ..., 4:] = 1
    lungs = stack_lungs(frames)
    assert lungs.mean(dim=(1, 2, 3)).tolist() == [0, 0, 1, 0]
    assert torch.equal(unstack_lungs(lungs), frames)
