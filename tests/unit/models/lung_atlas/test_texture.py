"""Filters by their responses."""

from __future__ import annotations

import math

import pytest
import torch

from anomalib_cxr.models.lung_atlas.texture import EDGES, N_DIRECTIONS, SPOTS, texture_filters

N_SPOTS = len(SPOTS)


def answers(picture):
    """Return the filters' answers at the center of a picture, `(25, 25)`."""
    return (texture_filters().squeeze(1) * picture).sum(dim=(1, 2))


def coordinates():
    away = torch.arange(-12.0, 13)
    return torch.meshgrid(away, away, indexing="ij")


def test_none_answers_to_a_flat_field():
    assert texture_filters().shape == (N_SPOTS + len(EDGES) * N_DIRECTIONS, 1, 25, 25)
    assert answers(torch.full((25, 25), 7.0)).abs().max() < 1e-5
    assert (texture_filters().abs().sum(dim=(1, 2, 3)) > 0.3).all()


@pytest.mark.parametrize("number", range(N_DIRECTIONS))
@pytest.mark.parametrize("size", range(len(EDGES)))
def test_the_right_direction_answers_to_a_line(number, size):
    """Also if it is dark on bright."""
    y, x = coordinates()
    turn = math.pi * number / N_DIRECTIONS
    line = torch.exp(-((math.cos(turn) * x + math.sin(turn) * y) ** 2) / (2 * EDGES[size] ** 2))
    first = N_SPOTS + size * N_DIRECTIONS
    for picture in (line, 1 - line):
        assert answers(picture)[first : first + N_DIRECTIONS].abs().argmax() == number


@pytest.mark.parametrize("number", range(N_SPOTS))
def test_the_right_size_answers_to_a_spot(number):
    """Of a spot of standard deviation s the answer of Gaussians of t and 1.6 t is greatest where s is 1.26 t."""
    y, x = coordinates()
    spot = torch.exp(-(x**2 + y**2) / (2 * (1.26 * SPOTS[number]) ** 2))
    assert answers(spot)[:N_SPOTS].argmax() == number
