"""Detection of lesions: a small U-Net on aligned lungs and their residuals from the subspace of healthy ones."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.functional.frames import frame_lung_mask

from .parts import HealthySubspace, score_in_batches

WIDTHS = (16, 32, 48, 64)
DROPPED = 0.1
"""Share of the coarsest features that are dropped in training."""


class LesionOutput(NamedTuple):
    """Output of the network."""

    map: torch.Tensor
    """Logits of a lesion, `(B, 1, H / 2, W / 2)`."""
    clean: torch.Tensor
    """The lungs without their lesions, in the scale of the input, `(B, 1, H / 2, W / 2)`."""
    image: torch.Tensor
    """Logit that there is a lesion at all, `(B,)`."""


def _block(n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (n_in, n_out):
        layers += [nn.Conv2d(width, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class LesionNet(nn.Module):
    """U-Net with three outputs: a map of lesions at half the resolution, the lungs without them, and an image logit.

    Args:
        n_channels: Channels of the input.
        widths: Channels of the levels, from the finest to the coarsest.

    Example:
        >>> output = LesionNet(2)(torch.zeros(1, 2, 96, 96))
        >>> output.map.shape, output.clean.shape, output.image.shape
        (torch.Size([1, 1, 48, 48]), torch.Size([1, 1, 48, 48]), torch.Size([1]))
    """

    def __init__(self, n_channels: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * n_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_block(n_in, n_out) for n_in, n_out in pairwise((widths[0], *widths)))
        self.up = nn.ModuleList(_block(coarse + fine, fine) for coarse, fine in pairwise(widths[::-1]))
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout2d(DROPPED)
        self.head = nn.Conv2d(widths[0], 2, 1)
        self.classifier = nn.Linear(2 * widths[-1], 1)

    def forward(self, frames: torch.Tensor) -> LesionOutput:
        """Detect lesions.

        Args:
            frames: Inputs, `(B, n_channels, H, W)`, whose sides are multiples of 16.

        Returns:
            The three outputs.
        """
        features = self.stem(functional.pixel_unshuffle(frames, 2))  # (B, widths[0], H / 2, W / 2)
        levels: list[torch.Tensor] = []
        for block in self.down:
            features = block(self.pool(features) if levels else features)
            levels.append(features)
        features = self.drop(levels.pop())  # (B, widths[-1], H / 16, W / 16)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        image = self.classifier(pooled).squeeze(1)
        for block in self.up:
            finer = levels.pop()
            enlarged = antialiased_resize(features, (finer.shape[-2], finer.shape[-1]))
            features = block(torch.cat([enlarged, finer], dim=1))
        maps = self.head(features)  # (B, 2, H / 2, W / 2)
        return LesionOutput(maps[:, :1], maps[:, 1:], image)


FRAME = (96, 96)
"""Rows and columns of the frame of the lesion nets."""
MAP = (FRAME[0] // 2, FRAME[1] // 2)
"""Rows and columns of their maps."""
N_COMPONENTS = 300
GREATEST = 3.0
"""Bound of the input, in units of healthy lungs' spread."""


class LesionInput(nn.Module):
    """Prepares frames for a lesion net.

    Gray values count from the median in the lungs, in units of the median spread of healthy lungs; the unit is fixed,
    so that a hazy lung is not stretched into a clear one. The second channel is their residual from the subspace of
    healthy lungs, at half the resolution.

    Args:
        n_components: Dimensions of the subspace.

    Example:
        >>> frames = torch.rand(6, 1, 96, 96)
        >>> prepare = LesionInput(n_components=4)
        >>> prepare.fit_unit(frames)
        >>> prepare.fit(frames)
        >>> prepare(frames).shape
        torch.Size([6, 2, 96, 96])
    """

    unit: torch.Tensor
    inside: torch.Tensor
    sampled: torch.Tensor

    def __init__(self, n_components: int = N_COMPONENTS) -> None:
        super().__init__()
        self.subspace = HealthySubspace(MAP[0] * MAP[1], n_components)
        self.register_buffer("unit", torch.ones(()))
        inside = frame_lung_mask(FRAME, torch.zeros(()))
        self.register_buffer("inside", inside, persistent=False)
        sampled = torch.zeros_like(inside)
        sampled[::3, ::3] = inside[::3, ::3]  # enough for quantiles
        self.register_buffer("sampled", sampled.flatten().nonzero().squeeze(1), persistent=False)

    def fit_unit(self, frames: torch.Tensor) -> None:
        """Learn the median spread of healthy lungs.

        Args:
            frames: Healthy lungs in [0, 1], `(N, 1, H, W)`.
        """
        low, high = (self._quantile(frames, share) for share in (0.1, 0.9))
        self.unit.copy_((high - low).median() + 0.02)

    def fit(self, frames: torch.Tensor) -> None:
        """Find the subspace of healthy lungs.

        Args:
            frames: Healthy lungs in [0, 1], `(N, 1, H, W)`.
        """
        self.subspace.fit(functional.avg_pool2d(self.normalize(frames), 2).flatten(1))

    def normalize(self, frames: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
        """Return gray values as deviations from the median in the lungs, in units.

        Args:
            frames: Gray values in [0, 1], `(B, 1, H, W)`.
            like: Frames whose medians are taken; None for those of the frames.

        Returns:
            `(B, 1, H, W)`.
        """
        median = self._quantile(frames if like is None else like, 0.5).reshape(-1, 1, 1, 1)
        return ((frames - median) / self.unit).clamp(-GREATEST, GREATEST)

    def residual(self, normalized: torch.Tensor) -> torch.Tensor:
        """Return the residual of normalized frames from the subspace.

        Args:
            normalized: Output of :meth:`normalize`, `(B, 1, H, W)`.

        Returns:
            `(B, 1, H, W)`.
        """
        small = functional.avg_pool2d(normalized, 2)
        residual = self.subspace.residual(small.flatten(1)).reshape_as(small)
        return antialiased_resize(residual, FRAME)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the input of a lesion net.

        Args:
            frames: Frames in [0, 1], `(B, 1, H, W)`.

        Returns:
            `(B, 2, H, W)`.
        """
        normalized = self.normalize(frames)
        return torch.cat([normalized, self.residual(normalized)], dim=1)

    def _quantile(self, frames: torch.Tensor, share: float) -> torch.Tensor:
        """Return a quantile of each image's lungs, `(B,)`."""
        values = frames.flatten(1)[:, self.sampled]
        return values.topk(max(1, round((1 - share) * values.shape[1])), dim=1).values[:, -1]


class LesionScores(NamedTuple):
    """Scores of frames by a lesion net."""

    scores: torch.Tensor
    """Mean logit of a lesion in the lungs, and logit that there is one at all, `(B, 2)`."""
    map: torch.Tensor
    """Probability of a lesion at each place, `(B, 1, H / 2, W / 2)`."""


N_SCORES = 2
"""Scores of a frame by a net."""
_LEAST_SPREAD = 1e-6


class LesionDetector(nn.Module):
    """A lesion net, its input, and the statistics of its scores of healthy images that it was not trained on.

    Example:
        >>> scores = LesionDetector()(torch.rand(2, 1, 96, 96))
        >>> scores.scores.shape, scores.map.shape
        (torch.Size([2, 2]), torch.Size([2, 1, 48, 48]))
    """

    center: torch.Tensor
    spread: torch.Tensor
    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.input = LesionInput()
        self.net = LesionNet(n_channels=2).eval()
        self.register_buffer("center", torch.zeros(N_SCORES))
        self.register_buffer("spread", torch.ones(N_SCORES))
        inside = functional.avg_pool2d(self.input.inside[None, None], 2)
        self.register_buffer("weight", inside / inside.sum(), persistent=False)

    def train(self, mode: bool = True) -> LesionDetector:
        """Stay in evaluation mode, whatever the mode of the surrounding model: another net is trained."""
        del mode
        return super().train(mode=False)

    def replace_net(self, prepare: LesionInput, net: LesionNet, healthy: torch.Tensor) -> None:
        """Detect by another net from now on.

        Args:
            prepare: Input of the net.
            net: The net.
            healthy: Frames of healthy lungs that it was not trained on, `(N, 1, H, W)`.
        """
        self.input.load_state_dict(prepare.state_dict())
        self.net.load_state_dict(net.state_dict())
        self.center.fill_(0)
        self.spread.fill_(1)
        scores = score_in_batches(self, healthy).scores
        self.center.copy_(scores.mean(dim=0))
        self.spread.copy_(scores.std(dim=0).clamp(min=_LEAST_SPREAD))

    def forward(self, frames: torch.Tensor) -> LesionScores:
        """Detect lesions.

        Args:
            frames: Frames in [0, 1], `(B, 1, H, W)`.

        Returns:
            Scores in units of healthy images' spread, and map.
        """
        output = self.net(self.input(frames))
        mean = (output.map * self.weight).sum(dim=(1, 2, 3))
        scores = (torch.stack([mean, output.image], dim=1) - self.center) / self.spread
        return LesionScores(scores, torch.sigmoid(output.map))
