"""One look for both players gives what two looks give: the same numbers, and the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from anomalib_cxr.models.networks.dcgan import Discriminator, initialize_dcgan
from anomalib_cxr.models.networks.wgan_gp import ImageNorm
from anomalib_cxr.models.roi_sure_ganomaly.judging import judge_for_both


def two_looks(discriminator, painted):
    """Judge the plain way: detached from the painter, and again with the weights held."""
    held = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    return discriminator(painted.detach()), functional_call(discriminator, held, (painted,))


@pytest.fixture(params=["batch", "image"])
def discriminator(request):
    torch.manual_seed(0)
    norm = {} if request.param == "batch" else {"norm": ImageNorm}
    return Discriminator(32, 4, **norm).apply(initialize_dcgan)


def losses(judged_for_discriminator, judged_for_painter):
    """Make of both judgments what the two players may make of them."""
    own = judged_for_discriminator.logits.sigmoid().sum() + 0.3 * judged_for_discriminator.features.square().sum()
    return own, 0.7 * judged_for_painter.features.square().mean() - 2 * judged_for_painter.logits.mean()


def gradients(discriminator, judge):
    discriminator.zero_grad()
    painted = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    own, theirs = losses(*judge(discriminator, painted))
    (own + theirs).backward()
    return [own.detach(), theirs.detach(), painted.grad, *(weight.grad for weight in discriminator.parameters())]


def test_same_losses_and_gradients_as_of_two_looks(discriminator):
    plain, once = (gradients(discriminator, judge) for judge in (two_looks, judge_for_both))
    for expected, found in zip(plain, once, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("player", [0, 1])
def test_each_player_s_loss_leaves_the_other_alone(discriminator, player):
    painted = torch.rand(3, 1, 32, 32).requires_grad_()
    losses(*judge_for_both(discriminator, painted))[player].backward()
    weights = [weight.grad for weight in discriminator.parameters()]
    reached = painted.grad.any(), any(grad is not None and grad.any() for grad in weights)
    assert tuple(map(bool, reached)) == ((False, True), (True, False))[player]


def test_looks_once(discriminator):
    seen = []
    discriminator.register_forward_hook(lambda *_: seen.append(1))
    judge_for_both(discriminator, torch.rand(2, 1, 32, 32))
    assert len(seen) == 1


def test_paintings_that_are_not_to_learn(discriminator):
    both = judge_for_both(discriminator, torch.rand(2, 1, 32, 32))
    both.for_discriminator.logits.sum().backward()
    assert all(weight.grad is not None for weight in discriminator.parameters())
