"""Nets that look for lesions, each trained on other healthy images: together a part of the atlas."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .cross_fitting import score_all
from .lesion_net import LesionNet
from .lesion_view import LesionView


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
