"""The gate on phantoms that it has not seen, and on what is no upright X-ray."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.pipeline.input_check import Gate, fit_gate

UNLIKE, NO_LUNGS = "unlike any X-ray that the gate has learned from", "no two lungs of plausible size and place"
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
def ask(gate, finder):
    def ask(image):
        reduced = finder.reduce(image)
        return gate.refusals(reduced, finder(reduced[None])[0])

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
    def test_lungs_alone(self, gate, finder, unseen):
        reduced = finder.reduce(unseen[0])
        one_lung = np.zeros((32, 32))
        one_lung[8:24, 3:12] = 1
        assert gate.refusals(reduced, one_lung) == [NO_LUNGS]
        two_lungs = one_lung + one_lung[:, ::-1]
        assert gate.refusals(reduced, two_lungs) == []

    def test_more_exposure_or_contrast_changes_nothing(self, gate, finder, unseen):
        reduced = finder.reduce(unseen[0])
        lungs = finder(reduced[None])[0]
        assert gate.refusals(0.3 + 0.4 * reduced, lungs) == gate.refusals(reduced, lungs) == []


class TestFit:
    @pytest.fixture(scope="class")
    def references(self, finder, labeled):
        reduced = torch.stack([finder.reduce(read_radiograph(path)) for path in labeled.references[:24]])
        return reduced, finder(reduced)

    def test_too_few(self, references):
        reduced, lungs = references
        with pytest.raises(ScreeningError, match=r"19 healthy X-rays .*\n.*at least 20"):
            fit_gate(reduced[:19], lungs[:19], seed=0)

    def test_the_seed_tells_all(self, references):
        first, again, other = (fit_gate(*references, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_allclose(first.weights, again.weights, rtol=1e-6, atol=1e-9)
        assert first.limit == pytest.approx(again.limit, rel=1e-9)
        assert not np.allclose(first.weights, other.weights, rtol=1e-3)


class TestFile:
    def test_a_gate_comes_back(self, gate, finder, unseen, tmp_path):
        gate.save(tmp_path / "gate.npz")
        again = Gate.load(tmp_path / "gate.npz")
        for image in (unseen[0], unseen[0].rot90(1, (1, 2)), torch.rand(1, 64, 64)):
            reduced = finder.reduce(image)
            lungs = finder(reduced[None])[0]
            assert again.refusals(reduced, lungs) == gate.refusals(reduced, lungs)

    @pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "flipped", "array", "other"])
    def test_a_damaged_file(self, calibrated, tmp_path, damage):
        path = tmp_path / "gate.npz"
        whole = (calibrated / "gate.npz").read_bytes()
        middle = len(whole) // 2
        contents = {
            "empty": b"",
            "text": b"no gate at all",
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
        with pytest.raises(ScreeningError, match=r"gate.npz: .*\n.*the gate that a calibration wrote"):
            Gate.load(path)
