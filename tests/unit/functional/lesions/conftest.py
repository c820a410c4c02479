"""Frames to paint lesions into."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def chest():
    """Return frames with two dark lungs of some structure in bright tissue, all different, and where lung is."""

    def make(size=(96, 96), count=6):
        height, width = size
        inside = torch.zeros(count, 1, height, width)
        for left, right in ((0.1, 0.4), (0.6, 0.9)):
            inside[..., height // 8 : height * 7 // 8, round(left * width) : round(right * width)] = 1
        wave = torch.linspace(0, 25, height).sin().reshape(-1, 1) * torch.linspace(0, 40, width).sin()
        dark = torch.linspace(0.2, 0.4, count).reshape(-1, 1, 1, 1)
        return torch.where(inside > 0, dark + 0.1 * wave, 0.8), inside

    return make


@pytest.fixture
def flat():
    """Return frames that are lung all over and of one gray value, but for a bright row that sets the tissue's level."""

    def make(size=(96, 96), count=6):
        lungs = torch.full((count, 1, *size), 0.2)
        lungs[..., : size[0] // 16, :] = 0.8
        return lungs, torch.ones(count, 1, *size)

    return make


@pytest.fixture
def in_the_middle(monkeypatch):
    """Put every lesion of a module into the middle of the frame."""

    def put(module):
        def middle(inside, count, generator):
            shape = (len(inside), count, 1, 1)
            return torch.full(shape, 0.5), torch.full(shape, 0.5 * inside.shape[-1] / inside.shape[-2])

        monkeypatch.setattr(module, "sample_centers", middle)

    return put
