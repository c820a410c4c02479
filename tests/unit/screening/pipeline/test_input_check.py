"""The packaged input check on phantoms that it has not seen, and on what is no upright X-ray."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.datasets import load_sample_images

from anomalib_cxr.data.reading.intensities import read_intensities
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.pipeline import input_check as module
from anomalib_cxr.screening.pipeline.frontal_graph import KINDS
from anomalib_cxr.screening.pipeline.input_check import (
    NO_FRONTAL,
    SHA256,
    WEIGHTS,
    InputCheck,
    packaged_input_check,
)

NO_LUNGS = "no two lungs of plausible size and place"
LUNGS = np.zeros((32, 32), bool)
LUNGS[8:24, [3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 21, 22, 23, 24, 25, 26, 27, 28]] = 1
TURNED = {
    "turned by 90 degrees": [np.rot90, lambda image: np.rot90(image, -1)],
    "upside down": [lambda image: np.rot90(image, 2), np.flipud],
    "inverted, dense tissue dark": [lambda image: 1 - image],
    f"{NO_FRONTAL}; most like a part of the chest, or one that is too small in the image": [
        lambda image: image[:32, :32]
    ],
}


@pytest.fixture(scope="module")
def check():
    return InputCheck.load(WEIGHTS)


@pytest.fixture(scope="module")
def unseen(labeled):
    """Healthy and sick phantoms."""
    return [read_intensities(path) for path in labeled.images.path]


def test_upright_ones_pass(check, unseen):
    assert [check.refusals(image, LUNGS) for image in unseen].count([]) >= 0.95 * len(unseen)


def test_a_mirrored_one_passes(check, unseen):
    """As does one with the heart on the right."""
    assert [check.refusals(np.fliplr(image), LUNGS) for image in unseen].count([]) >= 0.95 * len(unseen)


@pytest.mark.parametrize("kind", TURNED)
def test_turned_ones_are_refused_in_words(check, unseen, kind):
    for change in TURNED[kind]:
        found = [check.refusals(change(image), LUNGS) for image in unseen]
        assert found.count([]) == 0
        assert sum(kind in reasons for reasons in found) >= 0.8 * len(unseen)


@pytest.mark.parametrize("kind", range(1, len(KINDS)))
def test_what_is_not_frontal_either_way_is_not_called_turned(check, unseen, monkeypatch, kind):
    """The network takes the teeth of a panorama for a chest upside down, and does not know them when turned back."""
    monkeypatch.setattr(check, "probabilities", lambda _: np.eye(len(KINDS))[kind])
    (reason,) = check.refusals(unseen[0], LUNGS)
    assert reason.startswith(NO_FRONTAL)
    assert not any(word in reason for word in ("turned", "upside down", "inverted"))


class TestNoXrays:
    @pytest.mark.parametrize("number", [0, 1])
    def test_photographs(self, check, number):
        gray = load_sample_images().images[number].mean(axis=2, dtype=np.float32) / 255
        assert check.refusals(gray, LUNGS) != []

    def test_noise(self, check):
        rng = np.random.default_rng(0)
        assert all(check.refusals(rng.random((80, 80), np.float32), LUNGS) for _ in range(20))

    @pytest.mark.parametrize("gray", [0.0, 0.5, 1.0])
    def test_blank(self, check, gray):
        assert check.refusals(np.full((70, 50), gray, np.float32), LUNGS) == ["blank"]

    def test_a_gradient(self, check):
        assert check.refusals(np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1)), LUNGS) != []

    def test_not_a_number(self, check):
        image = np.random.default_rng(0).random((64, 64), np.float32)
        image[0, 0] = np.nan
        assert check.refusals(image, LUNGS) != []

    def test_probabilities_that_are_no_numbers(self, check, unseen):
        assert check.refusals(unseen[0], LUNGS, np.full(len(KINDS), np.nan, np.float32)) != []


class TestEachPart:
    def test_lungs_alone(self, check, unseen):
        one_lung = LUNGS & (np.arange(32) < 16)
        assert check.refusals(unseen[0], one_lung) == [NO_LUNGS]
        assert check.refusals(unseen[0], LUNGS) == []

    def test_more_exposure_or_contrast_changes_nothing(self, check, unseen):
        for image in unseen:
            assert check.refusals(0.3 + 0.4 * image, LUNGS) == check.refusals(image, LUNGS)

    def test_several_thumbnails_at_once(self, check, unseen):
        images = unseen[:11]
        found = check.probabilities_of_thumbnails(np.stack([check.reduce(image) for image in images]))
        np.testing.assert_allclose(found, [check.probabilities(image) for image in images], atol=1e-6)

    def test_probabilities_ignore_mirroring(self, check, unseen):
        found, mirrored = (check.probabilities(image) for image in (unseen[0], np.fliplr(unseen[0])))
        assert found.shape == (len(KINDS),)
        assert found.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(found, mirrored, atol=1e-6)


class TestFile:
    def test_small_and_the_one_that_was_packaged(self):
        assert len(packaged_input_check()) <= 500_000
        assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256

    def test_another_packaged_one_is_refused(self, monkeypatch, tmp_path):
        content = bytearray(WEIGHTS.read_bytes())
        content[-1] ^= 1
        monkeypatch.setattr(module, "WEIGHTS", tmp_path / "frontal.safetensors")
        with pytest.raises(ScreeningError, match=r"cannot be read: No such file"):
            packaged_input_check()
        (tmp_path / "frontal.safetensors").write_bytes(content)
        with pytest.raises(ScreeningError, match=rf"SHA-256 (?!{SHA256})\w{{64}}\n.*{SHA256}\n.*install"):
            packaged_input_check()

    def test_a_calibration_keeps_its_own(self, calibrated):
        assert (calibrated / "input_check.safetensors").read_bytes() == WEIGHTS.read_bytes()

    @pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "other", "of another shape"])
    def test_a_damaged_file(self, tmp_path, damage):
        path = tmp_path / "input_check.safetensors"
        whole = WEIGHTS.read_bytes()
        contents = {
            "empty": b"",
            "text": b"no weights at all",
            "truncated": whole[: len(whole) // 2],
            "other": save({"weight": np.ones(3, np.float32)}),
            "of another shape": save({name: weight[:1] for name, weight in load(whole).items() if weight.ndim}),
        }
        if damage in contents:
            path.write_bytes(contents[damage])
        with pytest.raises(ScreeningError, match=r"input_check.safetensors: [\s\S]*the input check of a calibration"):
            InputCheck.load(path)
