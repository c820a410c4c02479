"""The clean-up of masks, on drawn shapes and on true masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes, gaussian_filter, label

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.data.reading.radiograph import read_mask
from anomalib_cxr.segmentation.network import LungSegmenter, segment_lungs
from anomalib_cxr.segmentation.postprocessing import clean_mask, is_plausible


def canvas(*boxes):
    """Draw boxes given as (top, bottom, left, right)."""
    mask = np.zeros((40, 40), dtype=bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


LEFT, RIGHT = (8, 32, 4, 16), (8, 32, 22, 36)


class TestCleaning:
    def test_two_lungs_stay_as_they_are(self):
        lungs = canvas(LEFT, RIGHT)
        assert np.array_equal(clean_mask(lungs), lungs)

    def test_third_component_goes(self):
        stomach = (34, 39, 20, 30)
        assert np.array_equal(clean_mask(canvas(LEFT, RIGHT, stomach)), canvas(LEFT, RIGHT))

    def test_speck_is_no_second_lung(self):
        both = canvas(LEFT, RIGHT)
        both[20, 16:22] = True  # the lungs touch: one component
        speck = both.copy()
        speck[1:3, 1:3] = True
        assert np.array_equal(clean_mask(speck), both)

    def test_corner_is_no_connection(self):
        assert np.array_equal(clean_mask(canvas(LEFT, RIGHT, (32, 36, 16, 20))), canvas(LEFT, RIGHT))

    def test_hole_is_filled_and_bay_is_not(self):
        mask = canvas(LEFT, RIGHT)
        mask[12:15, 8:10] = False  # enclosed
        mask[12:15, 32:36] = False  # open to the outside
        expected = canvas(LEFT, RIGHT)
        expected[12:15, 32:36] = False
        assert np.array_equal(clean_mask(mask), expected)

    @pytest.mark.parametrize("seed", range(5))
    def test_holes_are_those_of_scipy(self, seed):
        """Of shapes that touch the edges or not, with holes and islands in them."""
        mask = gaussian_filter(np.random.default_rng(seed).random((60, 50)), 2) > 0.5
        labels, count = label(mask)
        sizes = np.array([(labels == number).sum() for number in range(1, count + 1)])
        largest = np.argsort(-sizes, kind="stable")[:2] + 1
        kept = np.isin(labels, largest[sizes[largest - 1] >= 0.05 * sizes.max()])
        assert np.array_equal(clean_mask(mask), binary_fill_holes(kept))

    def test_nothing(self):
        assert not clean_mask(canvas()).any()


class TestPlausibility:
    @pytest.mark.parametrize(
        "mask",
        [
            canvas(),
            ~canvas(),
            canvas(LEFT),
            canvas((10, 16, 10, 15), (10, 16, 25, 30)),  # 4 % of the image
        ],
        ids=["empty", "full", "one side", "tiny"],
    )
    def test_no_lungs(self, mask):
        assert not is_plausible(mask)

    def test_phantoms(self):
        drawn = [draw_phantom(np.random.default_rng(seed), 64).lungs for seed in range(6)]
        assert all(map(is_plausible, drawn))

    @pytest.mark.real_data
    def test_true_masks(self, real_root):
        masks = [read_mask(path).numpy() for path in sorted(real_root.glob("masks/*.png"))]
        assert [index for index, mask in enumerate(masks) if not is_plausible(mask)] == []
        # What the clean-up takes from them, or adds, is next to nothing.
        changed = [(clean_mask(mask) != mask).mean() for mask in masks]
        assert np.quantile(changed, 0.95) < 1e-3


class Bright(torch.nn.Module):
    """Stands for a U-Net: whatever is bright is lung."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, gray):
        return self.slope * gray


class TestFinding:
    def test_at_the_size_of_the_image(self):
        segmenter = LungSegmenter(32, (4, 4, 8, 8, 16))
        segmenter.unet = Bright()
        lungs = np.kron(canvas(LEFT, RIGHT), np.ones((4, 4), dtype=bool))  # 160 x 160
        found = segment_lungs(segmenter, torch.from_numpy(lungs)[None].float())
        assert found.shape == (160, 160)
        edges = binary_dilation(lungs, iterations=5) & ~binary_erosion(lungs, iterations=5)  # a pixel of 32 is 5 of 160
        assert np.array_equal(found[~edges], lungs[~edges])
