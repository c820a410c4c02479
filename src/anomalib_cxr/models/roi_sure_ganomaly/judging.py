"""One look of the discriminator at what was painted, for both players."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from anomalib_cxr.models.networks.dcgan import DiscriminatorOutput


class JudgedForBoth(NamedTuple):
    """What the discriminator says of paintings: the same numbers twice, with gradients that go different ways."""

    for_discriminator: DiscriminatorOutput
    """Its gradient reaches the discriminator's weights, but not the painting."""
    for_painter: DiscriminatorOutput
    """Its gradient reaches the painting, but not the discriminator's weights."""


def judge_for_both(discriminator: nn.Module, painted: torch.Tensor) -> JudgedForBoth:
    """Judge paintings once, for the discriminator to learn from and for the painter.

    The plain way is two passes, one of them detached from the painter and one with the weights held. Here the networks
    are passed once, and each player's gradient is taken back through them by itself; in one backward pass of the whole,
    so that hooks of distributed training see each weight once.

    Args:
        discriminator: Judges regions by a :class:`DiscriminatorOutput`.
        painted: Painted regions, `(B, C, H, W)`.

    Example:
        >>> from anomalib_cxr.models.base import Discriminator
        >>> discriminator, painted = Discriminator(32, n_features=4), torch.zeros(2, 1, 32, 32, requires_grad=True)
        >>> both = judge_for_both(discriminator, painted)
        >>> torch.equal(both.for_discriminator.logits, both.for_painter.logits)
        True
    """
    weights = [weight for weight in discriminator.parameters() if weight.requires_grad]
    features, logits, own_features, own_logits = _JudgeOnce.apply(discriminator, painted, *weights)
    return JudgedForBoth(DiscriminatorOutput(own_features, own_logits), DiscriminatorOutput(features, logits))


class _JudgeOnce(torch.autograd.Function):
    """Features and logits twice: of the first two the gradient goes to the painting, of the others to the weights."""

    @staticmethod
    def forward(
        ctx: Any, discriminator: nn.Module, painted: torch.Tensor, *weights: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        shown = painted.detach().requires_grad_()
        with torch.enable_grad():
            judged = discriminator(shown)
        ctx.shown, ctx.weights, ctx.judged = shown, weights, tuple(judged)
        return tuple(each.detach().clone() if again else each.detach() for again in (False, True) for each in judged)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        to_painting: tuple[torch.Tensor | None, ...] = (None,)
        if ctx.needs_input_grad[1]:
            to_painting = torch.autograd.grad(ctx.judged, ctx.shown, gradients[:2], retain_graph=True)
        to_weights = torch.autograd.grad(ctx.judged, ctx.weights, gradients[2:]) if ctx.weights else ()
        return None, *to_painting, *to_weights
