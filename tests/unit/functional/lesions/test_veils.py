"""Lesions that cover a part of the lungs."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.functional.lesions import drawing, gray_levels
from anomalib_cxr.functional.lesions.kinds import _add_diffuse, _add_effusion, _add_lucency, _add_patch

COUNT = 30


def change(paint, lungs, inside, generator):
    return paint(lungs, inside, gray_levels(lungs, inside), generator) - lungs


@pytest.mark.parametrize("size", [(96, 96), (64, 112)])
def test_fluid_lies_at_the_base_of_one_side(flat, generator, size):
    fluid = change(_add_effusion, *flat(size, COUNT), generator)
    sides = torch.stack([half.sum(dim=(1, 2, 3)) for half in fluid.chunk(2, dim=3)])
    assert (sides.min(dim=0).values == 0).all()
    assert set(sides.argmax(dim=0).tolist()) == {0, 1}
    rows = fluid.sum(dim=(1, 3))
    height = (rows * torch.linspace(0, 1, size[0])).sum(dim=1) / rows.sum(dim=1)
    assert (height > 0.65).all()
    inner = rows[:, size[0] // 16 : -size[0] // 16]  # the softened edge at the bottom fades
    assert (inner.diff(dim=1) >= -1e-4).all()  # denser from row to row


def test_fluid_climbs_the_chest_wall(flat, generator):
    fluid = change(_add_effusion, *flat(count=COUNT), generator)
    outwards = fluid + fluid.flip(3)  # either side, seen from the right half
    assert (outwards[..., 6:90, 52:90].diff(dim=3) >= -1e-5).all()


def test_a_patch_surrounds_its_place(flat, in_the_middle, generator):
    in_the_middle(drawing)
    patch = change(_add_patch, *flat(count=COUNT), generator).mean(dim=0)
    assert patch[0, 40:56, 40:56].mean() > 10 * patch[0, 80:, :10].mean()


def test_a_veil_covers_more_than_a_patch(flat, generator):
    def covered(paint):
        lesion = change(paint, *flat(count=COUNT), generator)
        return (lesion > lesion.amax(dim=(1, 2, 3), keepdim=True) / 4).float().mean()

    assert covered(_add_diffuse) > 2 * covered(_add_patch)


def test_a_lucency_is_measured_in_the_contrast_of_the_lungs(chest, generator):
    lungs, inside = chest(count=COUNT)
    depth = (-change(_add_lucency, lungs, inside, generator)).amax(dim=(1, 2, 3))
    assert (depth <= gray_levels(lungs, inside).contrast.flatten()).all()
    assert depth.max() > 0.1
