"""Inputs of the networks, for each alignment and normalization, against drawn lungs."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.functional.frames import MARGIN
from anomalib_cxr.functional.normalization import normalize_by_lungs, normalize_locally
from anomalib_cxr.models.roi_sure_ganomaly.lung_frame import LOCAL, REACH, LungFrames

SIDE = 64


@pytest.fixture
def lungs():
    """Two rectangles from 0.25 to 0.75 in height, the left from 0.125 to 0.4375, the right one mirrored."""
    lungs = torch.zeros(2, 1, SIDE, SIDE)
    lungs[..., 16:48, 8:28] = lungs[..., 16:48, 36:56] = 0.9
    return lungs


@pytest.fixture
def gray():
    coarse = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return 2 * smooth - 1


def test_the_published_input_is_the_image_itself(gray):
    frames = LungFrames(SIDE)
    assert not frames.needs_lungs
    inputs = frames.preprocess(gray, None)
    assert torch.equal(inputs.image, gray)
    assert inputs[1:] == (None, None, (None, SIDE))
    assert inputs.frame.of(gray) is inputs.frame.back(gray, gray) is gray


@pytest.mark.parametrize("alignment", ["box", "rows"])
class TestFrames:
    def test_the_lungs_fill_the_frame(self, gray, lungs, alignment):
        inputs = LungFrames(32, alignment).preprocess(gray, lungs)
        assert inputs.image.shape == inputs.lungs.shape == (2, 1, 32, 32)
        assert inputs.region is None
        rows = inputs.lungs[0, 0].amax(dim=1)
        assert rows.mean() == pytest.approx(1 / (1 + 2 * MARGIN), abs=0.05)
        both = {"box": 40 / 48, "rows": 1 / (1 + 2 * MARGIN)}[alignment]  # between the two lungs a sixth of the box
        assert inputs.lungs[0, 0, 16].mean() == pytest.approx(both / (1 if alignment == "rows" else 1.12), abs=0.06)

    def test_cut_out_lungs_are_on_black(self, gray, lungs, alignment):
        inputs = LungFrames(32, alignment, lungs_only=True).preprocess(gray, lungs)
        assert torch.equal(inputs.region, inputs.lungs)
        assert (inputs.image[inputs.region == 0] == -1).all()
        whole = LungFrames(32, alignment).preprocess(gray, lungs)
        torch.testing.assert_close(inputs.image[inputs.region == 1], whole.image[inputs.region == 1])

    def test_what_goes_into_the_frame_comes_back(self, gray, lungs, alignment):
        inputs = LungFrames(SIDE, alignment).preprocess(gray, lungs)
        back = inputs.frame.back(inputs.image + 1, gray) - 1
        assert (back - gray)[lungs > 0.5].abs().max() < 0.06
        assert (back[..., :8, :] == -1).all()

    @pytest.mark.parametrize("normalization", ["global", "lung", "local"])
    def test_no_lungs_no_harm(self, gray, lungs, alignment, normalization):
        lungs[1] = 0.2
        image = LungFrames(32, alignment, normalization).preprocess(gray, lungs).image
        assert image.isfinite().all()
        assert image.abs().max() <= 1
        assert image[1].std() > 0.05


def test_box_without_lungs_is_the_whole_image(gray):
    inputs = LungFrames(SIDE, "box").preprocess(gray, torch.zeros_like(gray))
    middle = (gray - 0)[..., 30:34, 30:34]
    torch.testing.assert_close(inputs.image[..., 30:34, 30:34], middle, atol=0.1, rtol=0)


class TestNormalization:
    def test_lung(self, gray, lungs):
        image = LungFrames(SIDE, normalization="lung").preprocess(gray, lungs).image
        expected = normalize_by_lungs((gray + 1) / 2, (lungs > 0.5).float()) / REACH
        torch.testing.assert_close(image, expected.clamp(-1, 1))

    def test_local(self, gray):
        frames = LungFrames(SIDE, normalization="local")
        assert not frames.needs_lungs
        expected = normalize_locally((gray + 1) / 2, LOCAL * SIDE) / REACH
        torch.testing.assert_close(frames.preprocess(gray, None).image, expected.clamp(-1, 1))

    def test_local_does_not_reach_from_one_lung_of_a_frame_into_the_other(self, gray, lungs):
        changed = gray.clone()
        changed[..., 34:] = 1  # the right lung and its margin
        frames = LungFrames(32, "rows", "local")
        first, second = (frames.preprocess(each, lungs).image for each in (gray, changed))
        assert torch.equal(first[..., :16], second[..., :16])
        assert not torch.equal(first[..., 16:], second[..., 16:])

    @pytest.mark.parametrize("normalization", ["lung", "local"])
    def test_exposure_hardly_matters(self, gray, lungs, normalization):
        frames = LungFrames(32, "rows", normalization)
        darker = 0.7 * (gray + 1) - 1
        first, second = frames.preprocess(gray, lungs).image, frames.preprocess(darker, lungs).image
        assert (first - second).abs().max() < 0.06
        assert (gray - darker).abs().max() > 0.4
