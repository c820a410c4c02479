"""Colors of heat: clear at zero, visible soon, in order, and with the ticks that the maps define."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from anomalib_cxr.models.base.healthy_maps import HealthyMaps
from anomalib_cxr.screening.heat_colors import TICKS, color_bar_stops, color_heat, heat_palette


def lightness(rgb):
    """CIE L* of sRGB."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def over(gray, heat):
    color = color_heat(np.asarray(heat))
    return gray * (1 - color[..., 3:]) + color[..., :3] * color[..., 3:]


def test_clear_at_zero_alone():
    opacity = heat_palette()[:, 3]
    assert opacity[0] == 0
    assert (np.diff(opacity) > 0).all()
    assert opacity[-1] < 0.75  # the X-ray stays visible


def test_lighter_is_hotter_in_even_steps():
    steps = np.diff(lightness(heat_palette()[::15, :3]))
    assert steps.min() > 0
    assert steps.max() < 2 * np.median(steps)


@pytest.mark.parametrize("gray", [0.15, 0.4, 0.7, 0.95])
def test_heat_of_a_usual_lesion_is_seen_at_once_on_any_gray(gray):
    """Heat of 0.3 takes on as much color as saturated paint has; faint as it was, 0.09 of it on a lung."""
    drawn = over(gray, 0.3)
    assert drawn.max() - drawn.min() > 0.25


def test_degrees_differ_on_dark_and_bright_tissue():
    for gray in (0.15, 0.4, 0.7, 0.95):
        drawn = over(gray, [0.0, 0.2, 0.5, 0.8])
        assert (np.abs(np.diff(drawn, axis=0)).max(axis=1) > 0.08).all()


def test_beyond_the_scale():
    assert np.array_equal(color_heat(np.array([-1.0, 2.0])), heat_palette()[[0, 255]])


def test_ticks_are_the_values_of_maps():
    healthy = HealthyMaps((1, 1))
    healthy.fit([torch.tensor([0.0, 2.0]).view(2, 1, 1, 1) + 10])
    mean, spread = 11.0, 2**0.5
    for heat, label in TICKS:
        deviations = float(re.search(r"\d+", label)[0])
        assert float(healthy(torch.full((1, 1, 1, 1), mean + deviations * spread))) == pytest.approx(heat, abs=1e-6)


def test_the_bar_has_the_colors_of_the_maps():
    """A browser mixes neighbors in a straight line; nowhere does that differ by a visible step."""
    stops = color_bar_stops()
    at = [stop.heat for stop in stops]
    assert (at[0], at[-1]) == (0, 1)
    opacity = np.interp(np.linspace(0, 1, 256), at, [stop.opacity for stop in stops])
    assert np.abs(opacity - heat_palette()[:, 3]).max() < 0.02
    colors = np.array([[int(stop.color[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops]) / 255
    drawn = np.stack([np.interp(np.linspace(0, 1, 256), at, channel) for channel in colors.T], axis=-1)
    assert np.abs(drawn - heat_palette()[:, :3]).max() < 0.02
