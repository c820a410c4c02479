"""Tiny X-rays with lung masks, and models of their size."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import Dataset

from anomalib_cxr import RoiImageItem, RoiSureGanomaly

SIDE = 32
LUNGS = torch.zeros(SIDE, SIDE)
LUNGS[6:26, 4:14] = LUNGS[6:26, 18:28] = 1


class Films(Dataset):
    """Noisy images whose lungs are dark; each look at one draws a random exposure if `augment`."""

    def __init__(self, n=8, *, masks=True, augment=False):
        grain = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
        self.images = (0.5 * grain + 0.5 * (1 - LUNGS)).expand(-1, 3, -1, -1)
        self.masks, self.augment = masks, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index] * (0.5 + 0.5 * torch.rand(1) if self.augment else 1)
        return RoiImageItem(image=image, gt_label=torch.tensor(index < 2), roi_mask=LUNGS if self.masks else None)


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


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks of this size only lose by threads, and lose minutes where other processes hold the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
