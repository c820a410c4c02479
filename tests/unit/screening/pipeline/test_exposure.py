"""Exposure of an X-ray, in the pipeline and by itself."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.data.reading.intensities import read_intensities
from anomalib_cxr.screening.pipeline.exposure import measure_exposure


@pytest.fixture
def two_lungs():
    lungs = np.zeros((32, 32))
    lungs[8:24, 4:12] = lungs[8:24, 20:28] = 0.9
    return lungs


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0.0), (0.5, 0.3), (0.8, 0.1)])
def test_follows_gray_values(two_lungs, gain, offset):
    """A linear change of all gray values changes both figures as it must."""
    image = np.random.default_rng(0).random((32, 32))
    before, after = measure_exposure(image, two_lungs), measure_exposure(gain * image + offset, two_lungs)
    assert after.lung_gray == pytest.approx(gain * before.lung_gray + offset)
    assert after.tissue_contrast == pytest.approx(gain * before.tissue_contrast)


def test_of_what_is_scored(pipeline_of, images):
    """Each scored image has it, refused ones have not."""
    pipeline = pipeline_of()
    results = [result for batch in pipeline([*images[:4], images[0].with_suffix(".none")]) for result in batch]
    assert [result.exposure is None for result in results] == [result.score is None for result in results]
    scored = [result for result in results if result.score is not None]
    assert scored
    for result in scored:
        gray = downsample(read_intensities(result.path), (pipeline.segmenter.side,) * 2)
        probability = pipeline.segmenter(gray[None])[0]
        assert result.exposure.lung_gray == pytest.approx(gray[probability > 0.5].mean(), abs=1e-6)
