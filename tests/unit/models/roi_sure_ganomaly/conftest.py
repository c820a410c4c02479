"""Tiny X-rays with lung masks, and models of their size."""

from __future__ import annotations

import pytest

from anomalib_cxr import RoiSureGanomaly

from ..xrays import LUNGS, SIDE, Films


@pytest.fixture(scope="session")
def films():
    return Films


@pytest.fixture(scope="session")
def lungs():
    return LUNGS


@pytest.fixture(scope="session")
def make_tiny():
    """Make a model of a size that trains in a moment."""

    def make(kind=RoiSureGanomaly, **settings):
        tiny = {"image_size": SIDE, "n_features": 4, "latent_dim": 5, "segmenter_steps": 2, "visualizer": False}
        return kind(**{**tiny, **settings})

    return make
