"""Which settings Fanogan takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anomalib_cxr.models.base.settings import ABOVE_ZERO, AT_LEAST_ONE, AT_LEAST_ZERO, BETAS, Rule, check_rules, one_of

IMAGE_SIZES = (32, 64, 128)

ARCHITECTURE = ("image_size", "latent_dim", "n_features", "kappa")
"""Settings without which a checkpoint's weights do not fit or its scores mean something else."""

_RULES: dict[str, Rule] = {
    "image_size": one_of(IMAGE_SIZES),
    "gan_epochs": AT_LEAST_ONE,
    "n_critic": AT_LEAST_ONE,
    "w_gp": ABOVE_ZERO,
    "kappa": AT_LEAST_ZERO,
    "latent_dim": AT_LEAST_ONE,
    "n_features": AT_LEAST_ONE,
    "lr": ABOVE_ZERO,
    "betas": BETAS,
    "lr_encoder": ABOVE_ZERO,
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings outside their range, all offending ones at once.

    Args:
        settings: Arguments of the model by name.

    Raises:
        SettingError: If one is out of range.

    Example:
        >>> check_settings({"image_size": 100, "n_critic": 5})
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: image_size = 100
          expected: image_size one of 32, 64, 128
          next step: correct it in the configuration under model.init_args
    """
    check_rules(settings, _RULES)
