"""Nearly identical X-rays: what the hash does not notice, what it tells apart, and which pairs are named."""

from __future__ import annotations

import io
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anomalib_cxr.data.datasets import near_copies as module
from anomalib_cxr.data.datasets.near_copies import (
    MAX_DISTANCE,
    ImageHashes,
    largest_distance,
    near_copies,
    perceptual_hash,
    warn_of_near_copies,
)
from anomalib_cxr.data.datasets.verification import SamplePaths
from anomalib_cxr.data.phantom.drawing import draw_phantom


@pytest.fixture(scope="module")
def phantoms():
    return [draw_phantom(np.random.default_rng(seed), 256).image for seed in range(12)]


def hash_of(pixels):
    return perceptual_hash(torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None])


def distance(one, other):
    return int((hash_of(one) != hash_of(other)).sum())


def as_jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(pixels, 0, 1) * 255)).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file)) / 255


@pytest.mark.parametrize(
    "change",
    [
        as_jpeg,
        lambda pixels: pixels[::2, ::2],
        lambda pixels: np.clip(pixels, 0, 1) ** 0.8,
        lambda pixels: 0.7 * pixels + 0.1,
        lambda pixels: pixels + np.random.default_rng(0).normal(0, 0.02, pixels.shape),
    ],
    ids=["jpeg", "half the size", "gamma", "contrast", "noise"],
)
def test_changed_images_stay_near(phantoms, change):
    assert max(distance(pixels, change(pixels)) for pixels in phantoms) <= MAX_DISTANCE


def test_other_images_and_mirrored_ones_are_far(phantoms):
    pairs = [(one, other) for place, one in enumerate(phantoms) for other in phantoms[:place]]
    assert min(distance(one, other) for one, other in pairs) > MAX_DISTANCE
    assert min(distance(pixels, pixels[:, ::-1]) for pixels in phantoms) > MAX_DISTANCE


def test_pairs_as_by_comparing_all(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    rng = np.random.default_rng(1)
    hashes = rng.random((5, 255))[rng.integers(0, 5, 40)] > 0.5
    hashes ^= rng.random(hashes.shape) < 0.05
    kinds = rng.choice(["train", "val"], 40).tolist()
    expected = {
        (i, j)
        for j in range(40)
        for i in range(j)
        if (hashes[i] != hashes[j]).sum() <= MAX_DISTANCE and kinds[i] != kinds[j]
    }
    found = near_copies(hashes, kinds)
    assert len(found) == len(set(found)) > 10
    assert set(found) == expected


def test_phantoms_are_alike_and_no_copies():
    """Some of many phantoms differ by fewer bits than copies of X-rays do, and a copy of one by fewer still."""
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(draw_phantom(rng, 64, ("nodules", None)[n % 2]).image)[None] for n in range(100)]
    hashes = np.stack([perceptual_hash(image) for image in images])
    kinds = list(range(100))
    assert near_copies(hashes, kinds)
    assert largest_distance(hashes) < MAX_DISTANCE
    assert near_copies(hashes, kinds, largest_distance(hashes)) == []
    hashes[7] = perceptual_hash(0.7 * images[0] + 0.1)
    assert near_copies(hashes, kinds, largest_distance(hashes)) == [(0, 7)]


def test_few_images_tell_nothing_of_all():
    assert largest_distance(np.zeros((5, 255), bool)) == MAX_DISTANCE


def test_none():
    assert near_copies(np.zeros((0, 255), bool), []) == []


def test_warning_names_pairs_across_splits_and_labels(caplog):
    one, other = np.zeros((2, 255), bool)
    other = ~one
    samples = pd.DataFrame(
        {
            "image_path": ["a.png", "b.png", "c.png", "d.png", "e.png"],
            "split": ["train", "test", "train", "test", "unused"],
            "label": ["normal", "normal", "normal", "abnormal", "normal"],
        }
    )
    with caplog.at_level(logging.WARNING):
        warn_of_near_copies(samples, np.array([one, one, one, other, other]))
    assert "2 pairs of nearly identical X-rays" in caplog.text
    assert "a.png (train, normal) and b.png (test, normal)" in caplog.text
    assert "b.png (test, normal) and c.png (train, normal)" in caplog.text
    assert "e.png" not in caplog.text


def test_no_warning_within_a_split(caplog):
    samples = pd.DataFrame({"image_path": ["a.png", "b.png"], "split": "train", "label": "normal"})
    warn_of_near_copies(samples, np.zeros((2, 255), bool))
    assert caplog.text == ""


def test_each_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)).save(path)
    hashes, paths = ImageHashes(), SamplePaths(str(path))
    assert hashes.hash_and_size(paths) == (40, 30)
    monkeypatch.setattr(module, "read_radiograph", None)
    assert hashes.of([paths], None).tolist() == [hash_of(np.asarray(Image.open(path)) / 255).tolist()]
