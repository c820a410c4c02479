"""The reasons for a score, in words."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

_ZONES = ("upper", "middle", "lower")


def describe(p_value: float, heat: np.ndarray, lungs: np.ndarray) -> str:
    """Say how unusual an X-ray is, and where most.

    Args:
        p_value: Share of healthy images that score as high, in (0, 1].
        heat: Where it is unusual, `(S, S)`.
        lungs: Probability of lung, `(T, T)`, for the same image.

    Returns:
        Two sentences. Left and right are the patient's: a frontal X-ray shows the right lung on the left.

    Example:
        >>> lungs = np.zeros((12, 12))
        >>> lungs[1:11, [2, 3, 4, 7, 8, 9]] = 1
        >>> heat = np.zeros((12, 12))
        >>> heat[2, 3] = 1
        >>> describe(0.03, heat, lungs)
        '3 % of healthy images score as high. Most unusual: right lung, upper zone (left in the picture).'
    """
    return f"{_percent(p_value)} of healthy images score as high. Most unusual: {_place(heat, lungs)}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.01 else f"{100 * share:.0f} %"  # noqa: PLR2004  # one digit at least


def _place(heat: np.ndarray, lungs: np.ndarray) -> str:
    inside = lungs > 0.5  # noqa: PLR2004  # more likely than not
    if not inside.any():
        return "no lung was found"
    factors = [to / of for to, of in zip(lungs.shape, heat.shape, strict=True)]
    smooth = gaussian_filter(zoom(heat, factors, order=1), lungs.shape[0] / 32)
    row, column = np.unravel_index(np.where(inside, smooth, -np.inf).argmax(), inside.shape)
    rows = np.flatnonzero(inside.any(axis=1))
    part = (row - rows[0]) / (rows[-1] - rows[0] + 1)
    middle = np.average(np.arange(inside.shape[1]), weights=inside.sum(axis=0))
    side, shown = ("right", "left") if column < middle else ("left", "right")
    return f"{side} lung, {_ZONES[int(part * len(_ZONES))]} zone ({shown} in the picture)"
