"""Region of interest: target of the generator, and region that it has reconstructed.

Tensors are in the scale of the networks, [-1, 1], in which black is -1: the outside of a region is set to black, not to
the mid gray that a product with the mask would give.
"""

from __future__ import annotations

import torch

BLACK = -1.0
"""Gray value outside the region of interest."""


def apply_roi(image: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Set everything outside the region of interest to black.

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


def reconstructed_region(reconstruction: torch.Tensor) -> torch.Tensor:
    """Return the region that a generator has reconstructed: the pixels brighter than the reconstruction's mean.

    The mean of an image that is black outside a region lies between black and the region. Unlike a fixed gray value,
    this also holds for a generator whose outside is not quite black, and for dark and bright exposures.

    Args:
        reconstruction: Output of the generator, `(B, 1, H, W)`.

    Returns:
        1.0 inside the region, 0.0 elsewhere, `(B, 1, H, W)`.

    Example:
        >>> reconstructed_region(torch.tensor([[[[-0.9, -0.8, -0.9, -0.2]]]]))
        tensor([[[[0., 0., 0., 1.]]]])
    """
    return (reconstruction > reconstruction.mean(dim=(-2, -1), keepdim=True)).to(reconstruction.dtype)
