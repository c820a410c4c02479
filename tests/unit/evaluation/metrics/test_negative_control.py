"""The negative control sees what is outside the lungs, and nothing inside."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.evaluation.metrics.negative_control import CONTROL, measure_control

N_TRAINED = 12


@pytest.fixture
def drawn(tmp_path):
    """Healthy phantoms; a table of those to train on, and one of the others."""
    samples = make_samples(write_phantoms(tmp_path / "phantoms", n_normal=20, n_sick=1, size=96))
    normal = samples[samples.label_index == 0]
    return normal[:N_TRAINED], normal[N_TRAINED:]


def change(sample, where, values):
    """Change pixels of an X-ray, chosen by its lungs."""
    (mask,) = sample.roi_mask_paths
    lungs = np.asarray(Image.open(mask)) > 0
    pixels = np.array(Image.open(sample.image_path))
    chosen = where(lungs)
    pixels[chosen] = values[chosen]
    Image.fromarray(pixels).save(sample.image_path)


def test_pixels_of_the_lungs_have_no_influence(drawn):
    trained, scored = drawn
    before = measure_control(trained, scored)
    noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    for sample in [*trained.itertuples(), *scored.itertuples()]:
        change(sample, lambda lungs: lungs, noise)
    after = measure_control(trained, scored)
    assert list(after.image) == [f"CXR_png/{path.split('/')[-1]}" for path in scored.image_path]
    np.testing.assert_allclose(after[CONTROL], before[CONTROL], rtol=1e-5)


def test_what_is_outside_the_lungs_is_seen(drawn):
    trained, scored = drawn
    before = measure_control(trained, scored)[CONTROL]
    stripes = np.tile(np.where(np.arange(96) % 4 < 2, 0, 255).astype(np.uint8), (96, 1))
    for sample in scored[:4].itertuples():
        change(sample, lambda lungs: ~lungs, stripes)
    after = measure_control(trained, scored)[CONTROL]
    assert roc_auc_score(np.arange(len(after)) < 4, after) == 1
    np.testing.assert_array_equal(after[4:], before[4:])


def test_images_without_a_mask_are_named(drawn):
    trained, scored = drawn
    bare = scored.assign(roi_mask_paths=[(), *scored.roi_mask_paths[1:]])
    with pytest.raises(DatasetError, match=r"1 scored ones without(?s:.*)PHANTOM_0012_0.png"):
        measure_control(trained, bare)
    with pytest.raises(DatasetError, match="1 training images with a lung mask"):
        measure_control(trained[:1], scored)
