"""What is where in a frame of rows, in which each lung fills one half; see :mod:`anomalib_cxr.functional.alignment`."""

from __future__ import annotations

import torch
from torch.nn import functional

from .alignment import MARGIN


def inside_of(size: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """Return 1 where a frame of rows shows lung, 0 in the margins around each of them.

    Args:
        size: Rows and columns of the frame; half of the columns for each lung.
        like: A tensor of the wanted type, on the wanted device.

    Returns:
        `(H, W)`.

    Example:
        >>> inside_of((10, 20), torch.zeros(1)).int()[:2, :10].tolist()
        [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]]
    """
    share = MARGIN / (1 + 2 * MARGIN)
    rows, columns = (round(share * count) for count in (size[0], size[1] // 2))
    lung = torch.ones(size[0] - 2 * rows, size[1] // 2 - 2 * columns, device=like.device, dtype=like.dtype)
    one = functional.pad(lung, (columns, columns, rows, rows))
    return torch.cat([one, one], dim=1)


def apart(frames: torch.Tensor) -> torch.Tensor:
    """Put the lungs of frames in a batch, so that neither reaches over: `(B, C, H, W)` to `(2B, C, H, W / 2)`.

    Example:
        >>> apart(torch.tensor([[[[1.0, 2.0]]]])).flatten().tolist()
        [1.0, 2.0]
    """
    return torch.unflatten(frames, 3, (2, -1)).permute(3, 0, 1, 2, 4).flatten(0, 1)  # OpenVINO rounds what is split


def together(lungs: torch.Tensor) -> torch.Tensor:
    """Put lungs side by side again, `(2B, C, H, W)` to `(B, C, H, 2W)`; the inverse of :func:`apart`.

    Example:
        >>> frames = torch.rand(3, 1, 4, 6)
        >>> torch.equal(together(apart(frames)), frames)
        True
    """
    both = torch.unflatten(lungs, 0, (2, -1))
    return torch.cat([both[0], both[1]], dim=3)
