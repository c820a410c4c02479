"""Tiny X-rays, with and without lungs, for the tests of each model."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import Dataset

from anomalib_cxr import RoiImageItem

FLOAT32 = {"device": "CPU", "config": {"INFERENCE_PRECISION_HINT": "f32"}}
"""Arguments of anomalib's OpenVINOInferencer by which it computes as torch does, also on processors with bfloat16."""
SIDE = 32
LUNGS = torch.zeros(SIDE, SIDE)
LUNGS[6:26, 4:14] = LUNGS[6:26, 18:28] = 1


class Xrays(Dataset):
    """Random images, of which the first `n_sick` are sick; from look `broken_after` on they are not finite.

    Each look at one draws a random exposure if `augment`.
    """

    def __init__(self, n=8, n_sick=0, *, augment=False, broken_after=None):
        self.images = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).expand(-1, 3, -1, -1)
        self.n_sick, self.augment, self.broken_after, self.looks = n_sick, augment, broken_after, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index] * (0.5 + 0.5 * torch.rand(1) if self.augment else 1)
        self.looks += 1
        if self.broken_after is not None and self.looks > self.broken_after:
            image = image * float("nan")
        return RoiImageItem(image=image, gt_label=torch.tensor(index < self.n_sick))


class Films(Xrays):
    """The same with dark lungs, and their mask if `masks`."""

    def __init__(self, n=8, n_sick=0, *, masks=True, **settings):
        super().__init__(n, n_sick, **settings)
        self.images = 0.5 * self.images + 0.5 * (1 - LUNGS)
        self.masks = masks

    def __getitem__(self, index):
        return super().__getitem__(index).update(roi_mask=LUNGS if self.masks else None)


def grouped(settings):
    """Return settings whose names `group__name` are put together into groups, as scikit-learn's pipelines have them."""
    groups = {}
    for name, value in settings.items():
        group, separator, field = name.partition("__")
        groups |= {group: {**groups.get(group, {}), field: value}} if separator else {name: value}
    return groups


def smooth_images(height, width, n=1):
    """Smooth random images in [0, 1], `(n, 3, height, width)`: their scores differ more than their rounding does."""
    coarse = torch.rand(n, 1, 9, 9, generator=torch.Generator().manual_seed(height))
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).repeat(1, 3, 1, 1)


def normalize_by(model, images):
    """Let a model's post-processor turn what the images score into values well inside [0, 1]."""
    scores = model.eval().model(2 * images - 1)
    for name, value in {"image": scores.pred_score, "pixel": scores.anomaly_map}.items():
        getattr(model.post_processor, f"{name}_min").fill_(0.0)
        getattr(model.post_processor, f"{name}_max").fill_(2 * value.max())
        getattr(model.post_processor, f"_{name}_threshold").fill_(value.mean())
