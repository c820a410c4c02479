"""Which noise a shift or a data set adds to its images, for the axis of a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

MID_GREY = 0.5


class Noise(NamedTuple):
    """Noise of variance `gain * x + sigma ** 2` at the grey value x, on the scale [0, 1] of the image."""

    gain: float
    sigma: float

    @property
    def kind(self) -> str:
        """Gaussian or Poisson-Gaussian."""
        return "Poisson-Gaussian" if self.gain else "Gaussian"

    @property
    def spread(self) -> float:
        """Standard deviation at mid-grey, which puts both kinds on one axis.

        Example:
            >>> round(Noise(gain=0.01, sigma=0.02).spread, 3)
            0.073
        """
        return math.sqrt(self.gain * MID_GREY + self.sigma**2)


NO_NOISE = Noise(0.0, 0.0)


def find_noise(settings: Any) -> Noise | None:
    """Return the first noise transform within the settings of a shift or of data; None where there is none.

    Example:
        >>> noise = {"class_path": "anomalib_cxr.data.noise.DetectorNoise", "init_args": {"sigma": 0.1}}
        >>> find_noise({"class_path": "Compose", "init_args": {"transforms": [{"class_path": "Resize"}, noise]}})
        Noise(gain=0.0, sigma=0.1)
        >>> find_noise({"class_path": "Resize"}) is None
        True
    """
    if isinstance(settings, Mapping) and str(settings.get("class_path", "")).endswith("Noise"):
        given = settings.get("init_args") or {}
        return Noise(float(given.get("gain", 0)), float(given.get("sigma", 0)))
    parts = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    return next((found for part in parts if (found := find_noise(part)) is not None), None)
