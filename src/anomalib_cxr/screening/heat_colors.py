"""Colors of anomaly maps over X-rays: one fixed scale for all cases, on disk and in the browser."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import matplotlib as mpl
import numpy as np

COLORMAP = "plasma"
"""Even in steps of lightness, read alike with color blindness, and with no gray that could be taken for the X-ray."""
DARKEST = 0.3
"""Where the colors begin in the colormap: those below are as dark as lungs."""
MAX_OPACITY = 0.7
"""Opacity of the greatest heat; the X-ray stays visible below it."""
RISE = 0.12
"""Heat at which 63 % of the greatest opacity are reached."""
TICKS = ((0.0, "\N{LESS-THAN OR EQUAL TO} 2"), (0.2, "3"), (0.5, "6"), (0.8, "18"))
"""Heat and label of each tick of the color bar: standard deviations above the mean of healthy images at a place, as
:class:`anomalib_cxr.models.base.healthy_maps.HealthyMaps` defines the values of a map."""
EXPLANATION = (
    "Standard deviations (SD) above healthy images at the same place for LungAtlas and RoiSureGanomaly; clear up to 2 "
    "SD. Same scale in all cases."
)
"""Meaning of the color bar."""


class Stop(NamedTuple):
    """Color of the color bar at a heat, for an SVG gradient."""

    heat: float
    color: str
    """Hexadecimal, as `#f0f921`."""
    opacity: float


@cache
def heat_palette() -> np.ndarray:
    """Return color and opacity of each of 256 levels of heat.

    The opacity rises fast from 0, so that heat of 0.2 to 0.3, where the strongest places of many sick images are, is
    seen at first sight; the colors tell the degree.

    Returns:
        RGBA in [0, 1], `(256, 4)`, read-only; level 0 is clear.

    Example:
        >>> heat_palette()[[0, 51, 255], 3].round(2).tolist()
        [0.0, 0.57, 0.7]
    """
    heat = np.linspace(0, 1, 256)
    palette = np.array(mpl.colormaps[COLORMAP](DARKEST + (1 - DARKEST) * heat))
    palette[:, 3] = MAX_OPACITY * -np.expm1(-heat / RISE)
    palette.flags.writeable = False
    return palette


def color_heat(heat: np.ndarray) -> np.ndarray:
    """Color heat.

    Args:
        heat: Anomaly map in [0, 1], of any shape.

    Returns:
        RGBA in [0, 1], `(*heat.shape, 4)`; clear where the heat is 0.
    """
    return np.asarray(heat_palette()[heat_levels(heat)])


def heat_levels(heat: np.ndarray) -> np.ndarray:
    """Return the levels of heat in the palette.

    Args:
        heat: Anomaly map in [0, 1], of any shape; beyond it is the first or the last level.

    Returns:
        Levels from 0 to 255, of the same shape, integers.
    """
    return np.asarray(np.rint(255 * np.clip(heat, 0, 1)), dtype=np.intp)


def color_bar_stops() -> list[Stop]:
    """Return the colors of the color bar, close together where the opacity rises fast.

    Returns:
        The stops, from heat 0 to 1.

    Example:
        >>> color_bar_stops()[-1]
        Stop(heat=1.0, color='#f0f921', opacity=0.7)
    """
    levels = [*range(0, 64, 8), *range(64, 255, 16), 255]
    palette = heat_palette()[levels]
    return [
        Stop(level / 255, mpl.colors.to_hex(color), round(float(color[3]), 3))
        for level, color in zip(levels, palette, strict=True)
    ]
