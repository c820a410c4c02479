"""Shapes of a lesion net, its image logit against the layer it stands for, and that all of it learns."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.models.lung_atlas.lesion_net import LesionNet


@pytest.fixture(scope="module")
def frames():
    return torch.randn(3, 2, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LesionNet(2, widths=(4, 6, 8, 10)).eval()


def test_maps_are_half_as_large(net, frames):
    output = net(frames)
    assert [each.shape for each in output] == [(3, 1, 16, 24), (3, 1, 16, 24), (3,)]


def test_the_image_logit_is_a_linear_layer_of_means_and_maxima(net, frames):
    coarsest = []
    net.drop.register_forward_hook(lambda module, args, output: coarsest.append(output))
    image = net(frames).image
    assert coarsest[0].shape == (3, 10, 2, 3)  # a sixteenth of the frame
    pooled = torch.cat([coarsest[0].mean(dim=(2, 3)), coarsest[0].flatten(2).max(dim=2).values], dim=1)
    torch.testing.assert_close(image, net.classifier(pooled).squeeze(1))


def test_an_image_scores_by_itself(net, frames):
    together, alone = net(frames), net(frames[1:2])
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other[1:2], atol=1e-5, rtol=1e-4)


def test_all_of_it_learns(net, frames):
    output = net.train()(frames)
    sum(each.square().sum() for each in output).backward()
    still = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


def test_coarse_features_are_dropped_in_training_only(net, frames):
    assert torch.equal(net(frames).image, net(frames).image)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(net.train()(frames).image, net(frames).image)
