"""Noise as a transform: its moments, its repeatability, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anomalib.data import AnomalibDataModule
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from anomalib_cxr.data.datasets.detector_noise import DetectorNoise
from anomalib_cxr.errors import CxrError, SettingError

SIDE = 256
STRENGTHS = [(0.0, 0.05), (0.02, 0.0), (0.02, 0.05)]


def gray(value, side=SIDE):
    return Image(torch.full((1, side, side), value))


def random_images(count=6):
    generator = torch.Generator().manual_seed(0)
    return [Image(torch.rand(1, 16, 16, generator=generator)) for _ in range(count)]


class TestMoments:
    @pytest.mark.parametrize("value", [0.05, 0.3, 0.95])
    @pytest.mark.parametrize(("gain", "sigma"), STRENGTHS)
    def test_mean_and_variance(self, gain, sigma, value):
        noise = (DetectorNoise(gain, sigma)(gray(value)).double() - value).flatten()
        variance = gain * value + sigma**2
        assert abs(noise.mean()) < 5 * (variance / noise.numel()) ** 0.5
        # A Poisson variable has the excess kurtosis 1 / mean, which adds to the spread of the measured variance.
        excess = gain**3 * value / variance**2
        assert noise.var().item() == pytest.approx(variance, rel=5 * ((2 + excess) / noise.numel()) ** 0.5)

    def test_pixels_are_independent(self):
        noise = (DetectorNoise(0.02, 0.05)(gray(0.5)) - 0.5)[0].double()
        for shifted in (noise.roll(1, 0), noise.roll(1, 1)):
            correlation = (noise * shifted).mean() / noise.var()
            assert abs(correlation) < 5 / SIDE

    def test_nothing_is_clipped(self):
        assert DetectorNoise(sigma=0.1)(gray(0.0)).min() < 0
        assert DetectorNoise(sigma=0.1)(gray(1.0)).max() > 1

    def test_without_noise_the_image_is_the_same(self):
        (image, *_) = random_images()
        torch.testing.assert_close(DetectorNoise()(image), image, rtol=0, atol=0)


class TestRepeatability:
    def noisy(self, images, seed=0):
        transform = DetectorNoise(0.01, 0.05, seed)
        return [transform(image) for image in images]

    def test_the_same_image_has_the_same_noise_in_any_order(self):
        images = random_images()
        torch.manual_seed(1)
        forward = self.noisy(images)
        torch.manual_seed(2)
        np.random.seed(2)  # noqa: NPY002  # the state that a transform might wrongly draw from
        backward = self.noisy(images[::-1])[::-1]
        for one, other in zip(forward, backward, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)

    def test_no_global_generator_is_touched(self):
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        self.noisy(random_images())
        torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)

    def test_where_the_image_lies_in_memory_does_not_matter(self):
        (image, *_) = random_images()
        turned = Image(image.mT.contiguous().mT)
        torch.testing.assert_close(*self.noisy([image, turned]), rtol=0, atol=0)

    def test_other_images_and_other_seeds_have_other_noise(self):
        image = gray(0.5)
        changed = image.clone()
        changed[0, 3, 4] = 0.6
        base = self.noisy([image])[0] - image
        for other in (self.noisy([changed])[0] - changed, self.noisy([image], seed=1)[0] - image):
            correlation = (base * other).mean() / base.var()
            assert abs(correlation) < 5 / SIDE


class TestInputs:
    def test_masks_and_what_is_missing_are_left_alone(self):
        (image, *_) = random_images()
        mask = Mask(torch.rand(16, 16) > 0.5)
        noisy, kept, missing = DetectorNoise(sigma=0.1)(image, mask, None)
        assert kept is mask
        assert missing is None
        assert isinstance(noisy, Image)
        assert (noisy.shape, noisy.dtype) == (image.shape, torch.float32)
        assert not torch.equal(noisy, image)

    def test_the_image_given_is_left_alone(self):
        (image, *_) = random_images()
        before = image.clone()
        DetectorNoise(sigma=0.1)(image)
        torch.testing.assert_close(image, before, rtol=0, atol=0)

    @pytest.mark.parametrize(
        "image", [Image(torch.ones(1, 4, 4, dtype=torch.uint8)), Image(torch.full((1, 4, 4), -0.1))]
    )
    def test_images_in_another_scale(self, image):
        with pytest.raises(CxrError, match=r"an image of torch\.\w+ with values from") as caught:
            DetectorNoise(sigma=0.1)(image)
        assert "before the image is normalized" in caught.value.next_step

    @pytest.mark.parametrize(
        ("setting", "found"),
        [({"gain": -0.1}, "gain = -0.1"), ({"sigma": float("nan")}, "sigma = nan"), ({"seed": -1}, "seed = -1")],
    )
    def test_settings(self, setting, found):
        with pytest.raises(SettingError, match=found):
            DetectorNoise(**setting)


def data_module(folder, root, transforms):
    """Make a data module of a configuration file with these transforms."""
    (folder / "data.yaml").write_text(f"""
class_path: anomalib_cxr.data.datamodules.base.RoiDataModule
init_args:
  root: {root}
  augmentations:
    class_path: torchvision.transforms.v2.Compose
    init_args:
      transforms:
        - {{class_path: torchvision.transforms.v2.Resize, init_args: {{size: [32, 32]}}}}
{transforms}
""")
    datamodule = AnomalibDataModule.from_config(folder / "data.yaml")
    datamodule.setup("fit")
    return datamodule


class TestDataModule:
    NOISE = "        - {class_path: anomalib_cxr.DetectorNoise, init_args: {gain: 0.01, sigma: 0.05, seed: 3}}"

    def test_noise_at_the_size_of_the_network(self, tmp_path, phantom_root):
        clean = data_module(tmp_path, phantom_root, "")
        noisy = data_module(tmp_path, phantom_root, self.NOISE)
        for split in ("train_data", "val_data", "test_data"):
            one, other = (getattr(each, split).collate_fn(list(getattr(each, split))) for each in (clean, noisy))
            assert torch.equal(one.roi_mask, other.roi_mask)
            assert torch.equal(one.gt_mask, other.gt_mask)
            noise = (other.image - one.image)[:, 0]
            assert noise.var().item() == pytest.approx(0.01 * one.image.mean().item() + 0.05**2, rel=0.15)
            assert torch.equal(other.image[:, 0], other.image[:, 2])

    def test_workers_add_the_same_noise(self, tmp_path, phantom_root):
        dataset = data_module(tmp_path, phantom_root, self.NOISE).test_data
        loaders = [DataLoader(dataset, 2, num_workers=count, collate_fn=dataset.collate_fn) for count in (0, 2)]
        alone, shared = ([batch.image for batch in loader] for loader in loaders)
        torch.testing.assert_close(alone, shared, rtol=0, atol=0)

    def test_resizing_afterwards_averages_noise_away(self):
        noisy = v2.Compose([DetectorNoise(sigma=0.1), v2.Resize((SIDE // 4, SIDE // 4))])(gray(0.5))
        assert noisy.std() < 0.04
