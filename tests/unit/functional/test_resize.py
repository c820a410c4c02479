"""Antialiased resizing against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2.functional import resize

from anomalib_cxr.functional import antialiased_resize


def noise(*shape):
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (256, 256, (64, 64)),
        (100, 80, (64, 64)),
        (97, 131, (64, 32)),
        (65, 64, (64, 64)),
        (31, 45, (64, 64)),
        (20, 200, (64, 64)),
        (3, 4892, (8, 256)),
        (4892, 3, (256, 8)),
        (1, 1, (4, 4)),
        (5, 7, (1, 1)),
        (1, 513, (1, 512)),
    ],
)
def test_is_torchvision(height, width, size):
    image = noise(2, 3, height, width)
    found = antialiased_resize(image, size)
    assert found.shape == (2, 3, *size)
    torch.testing.assert_close(found, resize(image, list(size), antialias=True), rtol=0, atol=2e-5)


def test_differs_from_no_antialiasing():
    image = noise(1, 1, 256, 256)
    assert (antialiased_resize(image, (32, 32)) - resize(image, [32, 32], antialias=False)).abs().max() > 0.5


def test_same_size_changes_nothing():
    image = noise(1, 1, 64, 48)
    torch.testing.assert_close(antialiased_resize(image, (64, 48)), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [33, 64, 1000, 4892])
def test_a_constant_stays_and_nothing_is_shifted(side):
    image = torch.linspace(-1, 1, side).expand(1, 1, 2, side)
    found = antialiased_resize(image, (2, 32))
    assert torch.allclose(antialiased_resize(torch.ones(1, 1, 2, side), (32, 32)), torch.ones(32), atol=1e-5)
    torch.testing.assert_close(found, -found.flip(-1), rtol=0, atol=1e-5)


def test_gradient_and_double():
    image = noise(1, 1, 9, 7).double().requires_grad_()
    antialiased_resize(image, (4, 4)).sum().backward()
    assert image.grad.dtype == torch.float64
    torch.testing.assert_close(image.grad.sum(), torch.tensor(16.0, dtype=torch.float64))
