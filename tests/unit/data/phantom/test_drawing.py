"""Phantoms: the same anatomy at any size, true masks, and noise with the moments of its model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anomalib_cxr.data.phantom.drawing import VISIBLE, NoiseModel, draw_phantom
from anomalib_cxr.data.phantom.findings import FINDINGS
from anomalib_cxr.errors import SettingError

SILENT = NoiseModel(gain=0.0, sigma=0.0)


def draw(seed, size=128, finding=None, noise=SILENT):
    return draw_phantom(np.random.default_rng(seed), size, finding, noise)


def components(mask):
    """Sizes of the 4-connected parts, the largest first."""
    labels, count = ndimage.label(mask)
    return sorted(ndimage.sum_labels(mask, labels, range(1, count + 1)), reverse=True)


def shrink(image, factor):
    size = image.shape[0] // factor
    return image.reshape(size, factor, size, factor).mean(axis=(1, 3))


class TestHealthy:
    @pytest.mark.parametrize("size", [64, 128, 200])
    def test_shapes_types_and_ranges(self, size):
        phantom = draw(0, size, noise=NoiseModel())
        for image in (phantom.image, phantom.clean):
            assert image.shape == (size, size)
            assert image.dtype == np.float32
            assert image.min() >= 0
            assert image.max() <= 1
        assert phantom.lungs.shape == (size, size)
        assert phantom.lungs.dtype == phantom.lesion.dtype == np.bool_
        assert not phantom.lesion.any()
        assert phantom.finding is None
        assert phantom.sex in {"M", "F"}
        assert 18 <= phantom.age <= 75

    def test_same_seed_same_radiograph_other_seed_another(self):
        np.testing.assert_array_equal(draw(3, noise=NoiseModel()).image, draw(3, noise=NoiseModel()).image)
        assert np.abs(draw(3).clean - draw(4).clean).mean() > 0.01

    @pytest.mark.parametrize("seed", range(12))
    def test_two_lungs_beside_the_midline_and_dark(self, seed):
        phantom = draw(seed)
        parts = components(phantom.lungs)
        assert len(parts) == 2
        assert parts[1] > 0.6 * parts[0]
        assert 0.18 < phantom.lungs.mean() < 0.32
        heart = phantom.clean[70:90, 64:74].mean()
        assert phantom.clean[phantom.lungs].mean() < heart - 0.25
        assert phantom.clean[50:110, :2].mean() < 0.3  # air beside the body

    @pytest.mark.parametrize("seed", range(12))
    def test_heart_bulges_to_the_left_and_right_dome_is_higher(self, seed):
        labels, _ = ndimage.label(draw(seed).lungs)
        lungs = [labels == number for number in (1, 2)]
        right, left = sorted(lungs, key=lambda lung: ndimage.center_of_mass(lung)[1])
        # The patient's right is on the image's left. The row just above the right dome crosses the heart.
        row = np.flatnonzero(right[:, np.flatnonzero(right.any(axis=0)).mean().astype(int)]).max() - 4
        outer, inner = np.flatnonzero(right[row])[[0, -1]], np.flatnonzero(left[row])[[0, -1]]
        assert np.ptp(outer) > 1.15 * np.ptp(inner)
        lowest = [np.flatnonzero(lung.any(axis=1)).max() for lung in (right, left)]
        assert lowest[0] <= lowest[1] + 1

    @pytest.mark.parametrize("finding", [None, *FINDINGS])
    def test_other_size_same_anatomy(self, finding):
        large, small = draw(5, 512, finding), draw(5, 128, finding)
        coarse = shrink(large.clean, 4)
        assert np.corrcoef(coarse.ravel(), small.clean.ravel())[0, 1] > 0.995
        assert np.abs(coarse - small.clean).mean() < 0.01
        assert (shrink(large.lungs, 4).round().astype(bool) ^ small.lungs).mean() < 0.01


class TestFindings:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("finding", list(FINDINGS))
    def test_lesion_is_what_changed_in_the_same_person(self, finding, seed):
        healthy, sick = draw(seed), draw(seed, finding=finding)
        changed = np.abs(sick.clean - healthy.clean)
        np.testing.assert_array_equal(sick.lesion, changed > VISIBLE)
        np.testing.assert_array_equal(sick.lungs, healthy.lungs)
        assert (sick.finding, sick.age, sick.sex) == (finding, healthy.age, healthy.sex)
        assert 0.003 < sick.lesion.mean() < 0.15
        assert changed[sick.lesion].mean() > 0.055  # several times the noise
        near = ndimage.binary_dilation(sick.lungs, iterations=8)
        assert (sick.lesion & ~near).sum() < 0.2 * sick.lesion.sum()  # fluid also runs behind dome and heart

    def test_consolidation_is_one_sided_and_white(self):
        for seed in range(6):
            healthy, sick = draw(seed), draw(seed, finding="consolidation")
            left, right = sick.lesion[:, 64:].sum(), sick.lesion[:, :64].sum()
            assert min(left, right) < 0.05 * max(left, right)
            assert (sick.clean - healthy.clean)[sick.lesion].max() > 0.25

    def test_effusion_blunts_one_costophrenic_angle(self):
        for seed in range(6):
            healthy, sick = draw(seed), draw(seed, finding="effusion")
            rows, columns = np.nonzero(sick.lesion)
            angle = healthy.lungs[:, :64] if columns.mean() < 64 else healthy.lungs[:, 64:]
            tip = np.flatnonzero(angle.any(axis=1)).max()
            assert rows.max() >= tip - 3
            assert (sick.clean >= healthy.clean - 1e-6).all()

    def test_cavity_is_a_ring_in_an_upper_lobe(self):
        for seed in range(6):
            healthy, sick = draw(seed, 256), draw(seed, 256, "cavity")
            change = ndimage.gaussian_filter(sick.clean - healthy.clean, 1.0)
            wall = change > 0.5 * change.max()
            hole = ndimage.binary_fill_holes(wall) & ~wall
            assert hole.sum() > 60
            assert ndimage.center_of_mass(hole)[0] < 128

    def test_miliary_is_many_small_spots_in_both_lungs(self):
        sick = draw(1, 512, "miliary")
        parts = components(sick.lesion)
        assert len(parts) > 100
        assert np.median(parts) < 200
        assert min(len(components(sick.lesion[:, half])) for half in (slice(256), slice(256, None))) > 40

    def test_nodules_are_a_few_round_spots_in_both_lungs(self):
        for seed in range(6):
            sick = draw(seed, finding="nodules")
            assert 1 <= len(components(sick.lesion)) <= 8
            assert sick.lesion[:, :64].any()
            assert sick.lesion[:, 64:].any()


class TestNoise:
    def test_moments_are_those_of_the_model(self):
        noise = NoiseModel(gain=0.002, sigma=0.03)
        rng = np.random.default_rng(0)
        for level in (0.1, 0.5, 0.9):
            sample = noise.apply(np.full((400, 400), level, np.float32), rng)
            assert sample.mean() == pytest.approx(level, abs=1e-3)
            assert sample.var() == pytest.approx(0.002 * level + 0.03**2, rel=0.02)

    def test_poisson_part_alone_counts_whole_photons(self):
        sample = NoiseModel(gain=0.125, sigma=0.0).apply(np.full((50, 50), 0.5, np.float32), np.random.default_rng(0))
        np.testing.assert_allclose(sample * 8, np.round(sample * 8), atol=1e-5)

    def test_without_noise_the_image_is_the_clean_one(self):
        phantom = draw(2)
        np.testing.assert_array_equal(phantom.image, phantom.clean)

    def test_noise_of_a_phantom_is_hardly_clipped(self):
        noise = NoiseModel()
        phantom = draw(2, 256, noise=noise)
        assert ((phantom.image <= 0) | (phantom.image >= 1)).mean() < 0.002
        residual = (phantom.image - phantom.clean) / np.sqrt(noise.gain * phantom.clean + noise.sigma**2)
        assert residual.std() == pytest.approx(1, rel=0.02)

    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["gain", "sigma"])
    def test_bad_noise_is_refused(self, name, value):
        with pytest.raises(SettingError, match=f"found: {name} = "):
            NoiseModel(**{name: value})


def test_unknown_finding_is_refused():
    with pytest.raises(SettingError, match=r"finding = 'fracture'\n  expected: finding one of consolidation, nodules"):
        draw(0, finding="fracture")


@pytest.mark.parametrize("size", [0, 31, 2049])
def test_bad_size_is_refused(size):
    with pytest.raises(SettingError, match=f"size = {size}\n  expected: size from 32 to 2048 and whole"):
        draw(0, size)
