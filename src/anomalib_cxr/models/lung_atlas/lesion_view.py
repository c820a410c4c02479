"""What the lesion net sees of a frame: grey values in units of healthy lungs, and their residual."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.functional.row_frames import inside_of

from .subspace import HealthySubspace

FRAME = (96, 96)
"""Rows and columns of the frame that the lesion nets see."""
MAP = (FRAME[0] // 2, FRAME[1] // 2)
"""Rows and columns of their maps."""
N_COMPONENTS = 300
GREATEST = 3.0
"""Bound of what is seen, in units of healthy lungs' spread."""


class LesionView(nn.Module):
    """Prepares frames for a lesion net.

    Grey values count from the median in the lungs, in units of the usual spread of healthy lungs; the unit is fixed, so
    that a hazy lung is not stretched into a clear one. Beside them stands what of them is not in the subspace of
    healthy lungs, at half the resolution.

    Args:
        n_components: Dimensions of the subspace.

    Example:
        >>> frames = torch.rand(6, 1, 96, 96)
        >>> view = LesionView(n_components=4)
        >>> view.fit_unit(frames)
        >>> view.fit(frames)
        >>> view(frames).shape
        torch.Size([6, 2, 96, 96])
    """

    unit: torch.Tensor
    inside: torch.Tensor
    looked_at: torch.Tensor

    def __init__(self, n_components: int = N_COMPONENTS) -> None:
        super().__init__()
        self.subspace = HealthySubspace(MAP[0] * MAP[1], n_components)
        self.register_buffer("unit", torch.ones(()))
        inside = inside_of(FRAME, torch.zeros(()))
        self.register_buffer("inside", inside, persistent=False)
        looked_at = torch.zeros_like(inside)
        looked_at[::3, ::3] = inside[::3, ::3]  # enough for quantiles
        self.register_buffer("looked_at", looked_at.flatten().nonzero().squeeze(1), persistent=False)

    def fit_unit(self, frames: torch.Tensor) -> None:
        """Learn the usual spread of healthy lungs in [0, 1], `(N, 1, H, W)`."""
        low, high = (self._quantile(frames, share) for share in (0.1, 0.9))
        self.unit.copy_((high - low).median() + 0.02)

    def fit(self, frames: torch.Tensor) -> None:
        """Find the subspace of healthy lungs in [0, 1], `(N, 1, H, W)`."""
        self.subspace.fit(functional.avg_pool2d(self.normalise(frames), 2).flatten(1))

    def normalise(self, frames: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
        """Return grey values from the median in the lungs, in units, `(B, 1, H, W)`.

        Args:
            frames: Grey values in [0, 1], `(B, 1, H, W)`.
            like: Frames whose medians are taken; None for those of the frames.
        """
        median = self._quantile(frames if like is None else like, 0.5).reshape(-1, 1, 1, 1)
        return ((frames - median) / self.unit).clamp(-GREATEST, GREATEST)

    def residual(self, normalised: torch.Tensor) -> torch.Tensor:
        """Return what of normalised frames is not in the subspace, `(B, 1, H, W)`."""
        small = functional.avg_pool2d(normalised, 2)
        residual = self.subspace.residual(small.flatten(1)).reshape_as(small)
        return antialiased_resize(residual, FRAME)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return what a lesion net sees of frames in [0, 1], `(B, 1, H, W)`: `(B, 2, H, W)`."""
        normalised = self.normalise(frames)
        return torch.cat([normalised, self.residual(normalised)], dim=1)

    def _quantile(self, frames: torch.Tensor, share: float) -> torch.Tensor:
        """Return a quantile of each image's lungs, `(B,)`."""
        values = frames.flatten(1)[:, self.looked_at]
        return values.topk(max(1, round((1 - share) * values.shape[1])), dim=1).values[:, -1]
