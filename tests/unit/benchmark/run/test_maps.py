"""Figures of anomaly maps, against scikit-learn and an area under the per-region overlap by its definition."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from scipy.integrate import trapezoid
from scipy.ndimage import label
from sklearn.metrics import f1_score, roc_auc_score

from anomalib_cxr.benchmark.run.maps import MapRecorder

SIDE = 16
TRAINER = SimpleNamespace(current_epoch=1)


def drawn(seed, contrast, n_images=6):
    """Draw maps, and masks with two lesions in every second image."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n_images, SIDE, SIDE), dtype=bool)
    masks[::2, 2:5, 2:6] = True
    masks[::2, 9:14, 10:12] = True
    return (rng.normal(0, 1, masks.shape) + contrast * masks).round(2).astype(np.float32), masks


def batches(maps, masks):
    """Yield batches of four images, with the maps as a model has them."""
    for start in range(0, len(maps), 4):
        chosen = slice(start, start + 4)
        image = torch.zeros(len(maps[chosen]), 3, SIDE, SIDE)
        shown = torch.tensor(maps[chosen], dtype=torch.float32)
        yield ImageBatch(image=image, anomaly_map=shown, gt_mask=torch.tensor(masks[chosen]))


def validate(recorder, maps, masks):
    recorder.on_validation_start(TRAINER, None)
    for batch in batches(maps, masks):
        recorder.on_validation_batch_end(TRAINER, None, batch)
    recorder.on_validation_end(TRAINER, None)


def measure(recorder, maps, masks):
    recorder.expect(TRAINER.current_epoch)
    for batch in batches(maps, masks):
        recorder.on_test_batch_end(TRAINER, None, batch)
    return recorder.table().set_index("metric").value


def area_under_region_overlap(maps, masks, limit=0.3):
    """By definition: mean over lesions of their share above each threshold, against false positives."""
    labeled = [label(mask)[0] for mask in masks]
    regions = [
        values[found == k] for values, found in zip(maps, labeled, strict=True) for k in range(1, found.max() + 1)
    ]
    thresholds = np.unique(maps)[::-1]
    rates = np.array([0.0, *((maps[~masks] >= threshold).mean() for threshold in thresholds)])
    overlaps = np.array([0.0, *(np.mean([(part >= threshold).mean() for part in regions]) for threshold in thresholds)])
    below = rates < limit
    area = trapezoid(np.append(overlaps[below], np.interp(limit, rates, overlaps)), np.append(rates[below], limit))
    return area / limit


@pytest.fixture
def recorder():
    recorder = MapRecorder()
    validate(recorder, *drawn(0, contrast=1.5))
    return recorder


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (0.01, 0.5), (10, 100)], ids=["any", "in [0, 1]", "large"])
def test_figures_are_those_of_other_libraries(scale, offset):
    recorder = MapRecorder()
    (validated, true), (maps, masks) = drawn(0, contrast=1.5), drawn(1, contrast=1.0)
    validate(recorder, validated * scale + offset, true)
    found = measure(recorder, maps * scale + offset, masks)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert found["pixel_aupro"] == pytest.approx(area_under_region_overlap(maps, masks), abs=1e-4)
    dice = {threshold: f1_score(true.ravel(), validated.ravel() >= threshold) for threshold in np.unique(validated)}
    threshold = max(dice, key=dice.get)
    assert found["pixel_dice"] == pytest.approx(f1_score(masks.ravel(), maps.ravel() >= threshold))


def test_a_test_knows_nothing_of_the_one_before(recorder):
    first = measure(recorder, *drawn(1, contrast=1.0))
    measure(recorder, *drawn(2, contrast=3.0))
    assert measure(recorder, *drawn(1, contrast=1.0)).equals(first)


def test_each_epoch_has_its_own_threshold(recorder):
    maps, masks = drawn(0, contrast=1.5)
    recorder.on_validation_start(TRAINER, None)
    later = SimpleNamespace(current_epoch=2)
    for batch in batches(10 * maps, masks):
        recorder.on_validation_batch_end(later, None, batch)
    recorder.on_validation_end(later, None)
    assert sorted(recorder.thresholds) == [1, 2]
    assert recorder.thresholds[2] == pytest.approx(10 * recorder.thresholds[1])


def test_without_masks_or_maps_nothing_is_measured():
    recorder = MapRecorder()
    recorder.expect(0)
    image = torch.zeros(2, 3, SIDE, SIDE)
    for batch in (ImageBatch(image=image), ImageBatch(image=image, anomaly_map=torch.zeros(2, SIDE, SIDE))):
        recorder.on_validation_batch_end(TRAINER, None, batch)
        recorder.on_test_batch_end(TRAINER, None, batch)
    recorder.on_validation_end(TRAINER, None)
    assert recorder.table().empty
    assert recorder.thresholds == {}
