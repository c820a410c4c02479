"""The network that looks for lesions: a small U-Net on aligned lungs and on what healthy lungs do not explain."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.deploy.openvino_layers import SafeMaxPool2d
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.functional.frames import frame_lung_mask

from .cross_fitting import score_all
from .parts import HealthySubspace

WIDTHS = (16, 32, 48, 64)
DROPPED = 0.1
"""Share of the coarsest features that are dropped in training."""


class Answer(NamedTuple):
    """What the network says of a frame."""

    places: torch.Tensor
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
    """Maps lesions at half the resolution of the frame, paints the lungs without them, and judges the image.

    Args:
        n_channels: Channels of the input.
        widths: Channels of the levels, from the finest to the coarsest.

    Example:
        >>> answer = LesionNet(2)(torch.zeros(1, 2, 96, 96))
        >>> answer.places.shape, answer.clean.shape, answer.image.shape
        (torch.Size([1, 1, 48, 48]), torch.Size([1, 1, 48, 48]), torch.Size([1]))
    """

    def __init__(self, n_channels: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * n_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_block(*each) for each in zip((widths[0], *widths[:-1]), widths, strict=True))
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_block(coarse + fine, fine) for coarse, fine in rising)
        self.pool = SafeMaxPool2d()
        self.drop = nn.Dropout2d(DROPPED)
        self.head = nn.Conv2d(widths[0], 2, 1)
        self.judge = nn.Linear(2 * widths[-1], 1)

    def forward(self, frames: torch.Tensor) -> Answer:
        """Look for lesions in frames, `(B, n_channels, H, W)`, whose sides are multiples of 16."""
        features = self.stem(functional.pixel_unshuffle(frames, 2))  # (B, widths[0], H / 2, W / 2)
        levels: list[torch.Tensor] = []
        for block in self.down:
            features = block(self.pool(features) if levels else features)
            levels.append(features)
        features = self.drop(levels.pop())  # (B, widths[-1], H / 16, W / 16)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        # A sum, not the layer's own matrix product, which OpenVINO would not leave in float32.
        image = (pooled * self.judge.weight).sum(dim=1) + self.judge.bias
        for block in self.up:
            finer = levels.pop()
            risen = antialiased_resize(features, (finer.shape[-2], finer.shape[-1]))
            features = block(torch.cat([risen, finer], dim=1))
        painted = self.head(features)
        return Answer(painted[:, :1], painted[:, 1:], image)


FRAME = (96, 96)
"""Rows and columns of the frame that the lesion nets see."""
MAP = (FRAME[0] // 2, FRAME[1] // 2)
"""Rows and columns of their maps."""
N_COMPONENTS = 300
GREATEST = 3.0
"""Bound of what is seen, in units of healthy lungs' spread."""


class LesionView(nn.Module):
    """Prepares frames for a lesion net.

    Gray values count from the median in the lungs, in units of the usual spread of healthy lungs; the unit is fixed, so
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
        inside = frame_lung_mask(FRAME, torch.zeros(()))
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
        self.subspace.fit(functional.avg_pool2d(self.normalize(frames), 2).flatten(1))

    def normalize(self, frames: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
        """Return gray values from the median in the lungs, in units, `(B, 1, H, W)`.

        Args:
            frames: Gray values in [0, 1], `(B, 1, H, W)`.
            like: Frames whose medians are taken; None for those of the frames.
        """
        median = self._quantile(frames if like is None else like, 0.5).reshape(-1, 1, 1, 1)
        return ((frames - median) / self.unit).clamp(-GREATEST, GREATEST)

    def residual(self, normalized: torch.Tensor) -> torch.Tensor:
        """Return what of normalized frames is not in the subspace, `(B, 1, H, W)`."""
        small = functional.avg_pool2d(normalized, 2)
        residual = self.subspace.residual(small.flatten(1)).reshape_as(small)
        return antialiased_resize(residual, FRAME)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return what a lesion net sees of frames in [0, 1], `(B, 1, H, W)`: `(B, 2, H, W)`."""
        normalized = self.normalize(frames)
        return torch.cat([normalized, self.residual(normalized)], dim=1)

    def _quantile(self, frames: torch.Tensor, share: float) -> torch.Tensor:
        """Return a quantile of each image's lungs, `(B,)`."""
        values = frames.flatten(1)[:, self.looked_at]
        return values.topk(max(1, round((1 - share) * values.shape[1])), dim=1).values[:, -1]


class LesionFinding(NamedTuple):
    """What a lesion net says of frames."""

    scores: torch.Tensor
    """Mean logit of a lesion in the lungs, and logit that there is one at all, `(B, 2)`."""
    places: torch.Tensor
    """Probability of a lesion at each place, `(B, 1, H / 2, W / 2)`."""


N_SCORES = 2
"""Scores of a frame by a net."""
_LEAST_SPREAD = 1e-6


class LesionFinder(nn.Module):
    """A lesion net, what it sees, and what healthy images score that it has not seen.

    Example:
        >>> finding = LesionFinder()(torch.rand(2, 1, 96, 96))
        >>> finding.scores.shape, finding.places.shape
        (torch.Size([2, 2]), torch.Size([2, 1, 48, 48]))
    """

    usual: torch.Tensor
    spread: torch.Tensor
    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.view = LesionView()
        self.net = LesionNet(n_channels=2).eval()
        self.register_buffer("usual", torch.zeros(N_SCORES))
        self.register_buffer("spread", torch.ones(N_SCORES))
        inside = functional.avg_pool2d(self.view.inside[None, None], 2)
        self.register_buffer("weight", inside / inside.sum(), persistent=False)

    def train(self, mode: bool = True) -> LesionFinder:
        """Stay set to inference, whatever the surrounding model is set to: what learns is a net of its own."""
        del mode
        return super().train(mode=False)

    def take(self, view: LesionView, net: LesionNet, healthy: torch.Tensor) -> None:
        """Look by this net from now on; `healthy` are frames that it has not seen, `(N, 1, H, W)`."""
        self.view.load_state_dict(view.state_dict())
        self.net.load_state_dict(net.state_dict())
        self.usual.fill_(0)
        self.spread.fill_(1)
        scores = self.score_all(healthy).scores
        self.usual.copy_(scores.mean(dim=0))
        self.spread.copy_(scores.std(dim=0).clamp(min=_LEAST_SPREAD))

    def score_all(self, frames: torch.Tensor) -> LesionFinding:
        """Look for lesions in frames, `(N, 1, H, W)`, some at a time, without gradients."""
        found: LesionFinding = score_all(self, frames)
        return found

    def forward(self, frames: torch.Tensor) -> LesionFinding:
        """Look for lesions in frames in [0, 1], `(B, 1, H, W)`; scores in units of healthy images' spread."""
        answer = self.net(self.view(frames))
        mean = (answer.places * self.weight).sum(dim=(1, 2, 3))
        scores = (torch.stack([mean, answer.image], dim=1) - self.usual) / self.spread
        return LesionFinding(scores, torch.sigmoid(answer.places))
