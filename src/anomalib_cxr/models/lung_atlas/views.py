"""What the parts of the atlas see of X-rays: lungs in several frames, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from anomalib_cxr.functional.alignment import Rows


class View(NamedTuple):
    """What the parts see of X-rays."""

    rows: Rows
    found: torch.Tensor
    """Whether each lung was found, `(B, 2)`."""
    lungs: torch.Tensor
    """Frames for the linear parts in [0, 1], `(B, 1, 64, 80)`."""
    fine: torch.Tensor
    """Frames for the lesion nets in [0, 1], `(B, 1, 96, 96)`."""
    inside: torch.Tensor
    """How probably each pixel of `fine` is lung, `(B, 1, 96, 96)`."""
    box: torch.Tensor
    """The lungs' box in [0, 1], and the probability of lung in it, `(B, 2, 64, 64)`."""


def join_views(views: Sequence[View]) -> View:
    """Put what was seen in several batches together."""
    rows = Rows(*(torch.cat(each) for each in zip(*(view.rows for view in views), strict=True)))
    return View(rows, *(torch.cat(each) for each in zip(*(view[1:] for view in views), strict=True)))


def choose_images(view: View, chosen: torch.Tensor) -> View:
    """Take some of the images, by their numbers or by a truth value for each."""
    return View(Rows(*(each[chosen] for each in view.rows)), *(each[chosen] for each in view[1:]))


def keep_images(view: View, most: int, seed: int) -> View:
    """Take a random sample of the images, in their order, where there are more than so many."""
    count = len(view.lungs)
    if count <= most:
        return view
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most]
    return choose_images(view, chosen.sort().values)
