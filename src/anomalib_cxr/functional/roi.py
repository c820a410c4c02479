"""The region of interest: what the painter is asked to paint, and where it has painted.

Tensors are in the network's scale, [-1, 1], in which black is -1. A region that is cut out is therefore moved to
black, not to the mid gray that a plain product with the mask would give.
"""

from __future__ import annotations

import torch

BLACK = -1.0
"""Gray value outside the region of interest."""


def apply_roi(image: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Keep the region of interest and make the rest black: the picture that a perfect painter paints.

    Args:
        image: X-rays in [-1, 1], `(B, 1, H, W)`.
        mask: 1 inside the region of interest, 0 outside, `(B, 1, H, W)`; None keeps the whole image.

    Returns:
        The image inside the mask, -1 outside, `(B, 1, H, W)`.

    Example:
        >>> apply_roi(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]))
        tensor([[[[ 0., -1.]]]])
    """
    return image if mask is None else mask * (image - BLACK) + BLACK


def reconstructed_region(painted: torch.Tensor) -> torch.Tensor:
    """Return where the painter painted: where the picture is brighter than its own mean.

    The mean of a picture that is black but for a region lies between black and the region. Unlike a fixed gray value it
    also does so for a painter that is not yet, or not quite, black outside, and for dark and bright exposures.

    Args:
        painted: What the painter painted, `(B, 1, H, W)`.

    Returns:
        1.0 where it painted, 0.0 elsewhere, `(B, 1, H, W)`.

    Example:
        >>> reconstructed_region(torch.tensor([[[[-0.9, -0.8, -0.9, -0.2]]]]))
        tensor([[[[0., 0., 0., 1.]]]])
    """
    return (painted > painted.mean(dim=(-2, -1), keepdim=True)).to(painted.dtype)
