"""The input check on phantoms that it has not seen, and on what is no upright X-ray."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.pipeline.input_check import InputCheck, draw_patterns, fit_input_check

pytestmark = pytest.mark.slow

UNLIKE, NO_LUNGS = "unlike the X-rays that the input check was fitted to", "no two lungs of plausible size and place"
TURNED = {
    "turned by 90 degrees to the left": lambda image: image.rot90(1, (1, 2)),
    "turned by 180 degrees": lambda image: image.rot90(2, (1, 2)),
    "turned by 90 degrees to the right": lambda image: image.rot90(-1, (1, 2)),
    "upside down as in a mirror": lambda image: image.flip(1),
    "inverted, dense tissue dark": lambda image: 1 - image,
    "cropped to a part of the chest": lambda image: image[:, :32, :32],
}


@pytest.fixture(scope="module")
def unseen(labeled):
    """Healthy and sick phantoms that are no references."""
    return [read_radiograph(path) for path in labeled.images.path]


@pytest.fixture(scope="module")
def ask(input_check, lungs):
    def ask(image):
        reduced = lungs.downsample(image)
        return input_check.refusals(reduced, lungs(reduced[None])[0])

    return ask


def test_upright_ones_pass(ask, unseen):
    assert [ask(image) for image in unseen].count([]) >= 0.95 * len(unseen)


def test_a_mirrored_one_passes(ask, unseen):
    """As does one with the heart on the right."""
    assert [ask(image.flip(2)) for image in unseen].count([]) >= 0.9 * len(unseen)


@pytest.mark.parametrize("kind", TURNED)
def test_turned_ones_are_refused_in_words(ask, unseen, kind):
    found = [ask(TURNED[kind](image)) for image in unseen]
    assert found.count([]) <= 0.05 * len(unseen)
    assert sum(kind in reasons for reasons in found) >= 0.8 * len(unseen)


class TestNoXrays:
    @pytest.mark.parametrize("number", [0, 1])
    def test_photographs(self, ask, number):
        gray = load_sample_images().images[number].mean(axis=2, dtype=np.float32) / 255
        assert set(ask(torch.from_numpy(gray)[None])) & {"no chest X-ray", UNLIKE, NO_LUNGS}

    def test_noise(self, ask):
        draw = torch.Generator().manual_seed(0)
        found = [ask(torch.rand(1, 80, 80, generator=draw)) for _ in range(20)]
        assert all(set(reasons) & {"no chest X-ray", UNLIKE, NO_LUNGS} for reasons in found)

    @pytest.mark.parametrize("gray", [0.0, 0.5, 1.0])
    def test_blank(self, ask, gray):
        assert ask(torch.full((1, 70, 50), gray)) == ["blank"]

    def test_a_gradient(self, ask):
        assert ask(torch.linspace(0, 1, 64).expand(1, 64, 64)) != []


class TestEachPart:
    def test_lungs_alone(self, input_check, lungs, unseen):
        reduced = lungs.downsample(unseen[0])
        one_lung = np.zeros((32, 32))
        one_lung[8:24, 3:12] = 1
        assert input_check.refusals(reduced, one_lung) == [NO_LUNGS]
        two_lungs = one_lung + one_lung[:, ::-1]
        assert input_check.refusals(reduced, two_lungs) == []

    def test_more_exposure_or_contrast_changes_nothing(self, input_check, lungs, unseen):
        reduced = lungs.downsample(unseen[0])
        probability = lungs(reduced[None])[0]
        brighter = 0.3 + 0.4 * reduced
        assert input_check.refusals(brighter, probability) == input_check.refusals(reduced, probability) == []


class TestFit:
    @pytest.fixture(scope="class")
    def references(self, lungs, labeled):
        reduced = torch.stack([lungs.downsample(read_radiograph(path)) for path in labeled.references[:24]])
        return reduced, lungs(reduced)

    def test_too_few(self, references):
        reduced, probabilities = references
        with pytest.raises(ScreeningError, match=r"19 healthy X-rays .*\n.*at least 20"):
            fit_input_check(reduced[:19], probabilities[:19], seed=0)

    def test_the_seed_tells_all(self, references):
        first, again, other = (fit_input_check(*references, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_allclose(first.weights, again.weights, rtol=1e-6, atol=1e-9)
        assert first.limit == pytest.approx(again.limit, rel=1e-9)
        assert not np.allclose(first.weights, other.weights, rtol=1e-3)


class TestFile:
    def test_is_read_as_it_was_written(self, input_check, lungs, unseen, tmp_path):
        input_check.save(tmp_path / "input_check.npz")
        again = InputCheck.load(tmp_path / "input_check.npz")
        for image in (unseen[0], unseen[0].rot90(1, (1, 2)), torch.rand(1, 64, 64)):
            reduced = lungs.downsample(image)
            probability = lungs(reduced[None])[0]
            assert again.refusals(reduced, probability) == input_check.refusals(reduced, probability)

    @pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "flipped", "array", "other"])
    def test_a_damaged_file(self, calibrated, tmp_path, damage):
        path = tmp_path / "input_check.npz"
        whole = (calibrated / "input_check.npz").read_bytes()
        middle = len(whole) // 2
        contents = {
            "empty": b"",
            "text": b"no archive at all",
            "truncated": whole[:middle],
            "flipped": whole[:middle]
            + bytes(255 - byte for byte in whole[middle : middle + 4000])
            + whole[middle + 4000 :],
        }
        if damage in contents:
            path.write_bytes(contents[damage])
        elif damage == "array":
            with path.open("wb") as file:
                np.save(file, np.ones(3))
        elif damage == "other":
            np.savez(path, kinds=np.ones(3))
        with pytest.raises(ScreeningError, match=r"input_check.npz: .*\n.*the input check of a calibration"):
            InputCheck.load(path)


def test_span_from_black_to_white():
    drawn = draw_patterns(40, 24, seed=3)
    assert (drawn.shape, drawn.dtype) == ((40, 1, 24, 24), torch.float32)
    np.testing.assert_allclose(drawn.amin((1, 2, 3)), 0)
    np.testing.assert_allclose(drawn.amax((1, 2, 3)), 1, atol=1e-3)


def test_no_two_alike_and_the_seed_tells_all():
    drawn, again, other = (draw_patterns(40, 24, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 40


def test_kinds_differ_in_their_grain():
    """Neighbors agree in clouds and hardly at all in noise."""
    drawn = draw_patterns(80, 32, seed=0)[:, 0].numpy()
    agree = [np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1] for image in drawn]
    noise, clouds = np.median(agree[::4]), np.median(agree[1::4])
    assert abs(noise) < 0.1
    assert clouds > 0.7
