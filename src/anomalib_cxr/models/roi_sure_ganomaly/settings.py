"""Which settings RoiSureGanomaly takes, and what it says of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal, get_args

from anomalib_cxr.errors import SettingError, refuse_settings

from .loss import RECONSTRUCTIONS

Target = Literal["lungs", "image"]
TARGETS: tuple[str, ...] = get_args(Target)
IMAGE_SIZES = (32, 64, 128, 256, 512)

ARCHITECTURE = ("image_size", "latent_dim", "n_features", "max_features", "target")
"""Settings without which a checkpoint's weights do not fit or mean something else."""


def _listed(choices: Sequence[object]) -> str:
    return ", ".join(map(str, choices))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _is_above_zero(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_at_least_zero(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_beta(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


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
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "image_size": (lambda value: _is_count(value) and value in IMAGE_SIZES, f"one of {_listed(IMAGE_SIZES)}"),
        "reconstruction": (lambda value: value in RECONSTRUCTIONS, f"one of {_listed(RECONSTRUCTIONS)}"),
        "target": (lambda value: value in TARGETS, f"one of {_listed(TARGETS)}"),
        "sigma": (_is_at_least_zero, ">= 0 and finite"),
        "tau": (_is_above_zero, "> 0 and finite"),
        "w_adv": (_is_at_least_zero, ">= 0 and finite"),
        "w_enc": (_is_at_least_zero, ">= 0 and finite"),
        "w_rec": (_is_at_least_zero, ">= 0 and finite"),
        "latent_dim": (_is_count, ">= 1 and whole"),
        "n_features": (_is_count, ">= 1 and whole"),
        "max_features": (lambda value: value is None or _is_count(value), ">= 1 and whole, or null for no cap"),
        "lr": (_is_above_zero, "> 0 and finite"),
        "betas": (
            lambda value: isinstance(value, Sequence) and [_is_beta(beta) for beta in value] == [True, True],
            "two numbers in [0, 1)",
        ),
    }
    wrong = {name: value for name, value in settings.items() if name in rules and not rules[name][0](value)}
    refuse_settings(wrong, {name: expected for name, (_, expected) in rules.items()}, "model.init_args")


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
            "use the settings that the checkpoint was trained with (report/model.yaml in its results folder)",
        )
