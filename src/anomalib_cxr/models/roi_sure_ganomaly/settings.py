"""Which settings RoiSureGanomaly takes, and what it says of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from anomalib_cxr.models.components.settings import (
    ABOVE_ZERO,
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    BETAS,
    Rule,
    check_rules,
    is_count,
    one_of,
)

from .loss import RECONSTRUCTIONS

Target = Literal["lungs", "image"]
TARGETS: tuple[str, ...] = get_args(Target)
IMAGE_SIZES = (32, 64, 128, 256, 512)

ARCHITECTURE = ("image_size", "latent_dim", "n_features", "max_features", "target")
"""Settings without which a checkpoint's weights do not fit or mean something else."""


_RULES: dict[str, Rule] = {
    "image_size": one_of(IMAGE_SIZES),
    "reconstruction": one_of(RECONSTRUCTIONS),
    "target": one_of(TARGETS),
    "sigma": AT_LEAST_ZERO,
    "tau": ABOVE_ZERO,
    "w_adv": AT_LEAST_ZERO,
    "w_enc": AT_LEAST_ZERO,
    "w_rec": AT_LEAST_ZERO,
    "latent_dim": AT_LEAST_ONE,
    "n_features": AT_LEAST_ONE,
    "max_features": (lambda value: value is None or is_count(value), ">= 1 and whole, or null for no cap"),
    "lr": ABOVE_ZERO,
    "betas": BETAS,
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings outside their range, all offending ones at once.

    Args:
        settings: Arguments of the model by name.

    Raises:
        SettingError: If one is out of range.

    Example:
        >>> check_settings({"sigma": -0.1, "tau": 0.01})
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: sigma = -0.1
          expected: sigma >= 0 and finite
          next step: correct it in the configuration under model.init_args
    """
    check_rules(settings, _RULES)
