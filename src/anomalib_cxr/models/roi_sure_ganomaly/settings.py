"""Which settings RoiSureGanomaly takes, and what it says of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from anomalib_cxr.errors import SettingError

from .loss import RECONSTRUCTIONS

Target = Literal["lungs", "image"]
TARGETS: tuple[str, ...] = get_args(Target)
IMAGE_SIZES = (32, 64, 128, 256, 512)

ARCHITECTURE = ("image_size", "latent_dim", "n_features", "max_features", "target")
"""Settings without which a checkpoint's weights do not fit or mean something else."""


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
          expected: sigma >= 0
          next step: correct it in the configuration under model.init_args
    """
    rules = {
        "image_size": (lambda value: value in IMAGE_SIZES, f"one of {', '.join(map(str, IMAGE_SIZES))}"),
        "reconstruction": (lambda value: value in RECONSTRUCTIONS, f"one of {', '.join(RECONSTRUCTIONS)}"),
        "target": (lambda value: value in TARGETS, f"one of {', '.join(TARGETS)}"),
        "sigma": (lambda value: value >= 0, ">= 0"),
        "tau": (lambda value: value > 0, "> 0"),
        "w_adv": (lambda value: value >= 0, ">= 0"),
        "w_enc": (lambda value: value >= 0, ">= 0"),
        "w_rec": (lambda value: value >= 0, ">= 0"),
        "latent_dim": (lambda value: value >= 1, ">= 1"),
        "n_features": (lambda value: value >= 1, ">= 1"),
        "max_features": (lambda value: value is None or value >= 1, ">= 1, or null for no cap"),
        "lr": (lambda value: value > 0, "> 0"),
        "betas": (lambda value: len(value) == 2 and all(0 <= beta < 1 for beta in value), "two numbers in [0, 1)"),
    }
    wrong = [name for name, value in settings.items() if name in rules and not rules[name][0](value)]
    if wrong:
        raise SettingError(
            ", ".join(f"{name} = {settings[name]!r}" for name in wrong),
            ", ".join(f"{name} {rules[name][1]}" for name in wrong),
            "correct it in the configuration under model.init_args",
        )


def check_architecture(settings: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another architecture.

    Args:
        settings: Settings of the model that is to take the weights.
        checkpoint: Settings of the model that the checkpoint holds; empty for a checkpoint of another kind.

    Raises:
        SettingError: If they differ; it names each setting with both values.
    """
    differing = [name for name in ARCHITECTURE if checkpoint.get(name, "absent") != settings[name]]
    if differing:
        raise SettingError(
            "a checkpoint with " + ", ".join(f"{name} = {checkpoint.get(name, 'absent')!r}" for name in differing),
            "what this model is built with: " + ", ".join(f"{name} = {settings[name]!r}" for name in differing),
            "use the configuration that the checkpoint was trained with (config.yaml in its results folder)",
        )
