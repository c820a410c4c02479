"""Ranges of settings that models share, and what is said of a setting or a checkpoint outside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any

from anomalib_cxr.errors import SettingError, refuse_settings

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is accepted, and which ones are, in words that can follow the setting's name."""


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def is_count(value: Any) -> bool:
    """Tell whether a value is a whole number from 1."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _are_betas(value: Any) -> bool:
    return isinstance(value, Sequence) and [is_number(beta) and 0 <= beta < 1 for beta in value] == [True, True]


AT_LEAST_ONE: Rule = (is_count, ">= 1 and whole")
ABOVE_ZERO: Rule = (lambda value: is_number(value) and value > 0, "> 0 and finite")
AT_LEAST_ZERO: Rule = (lambda value: is_number(value) and value >= 0, ">= 0 and finite")
BETAS: Rule = (_are_betas, "two numbers in [0, 1)")


def one_of(choices: Sequence[object]) -> Rule:
    """Return the rule that a setting is one of several values, and of their kind.

    Example:
        >>> accepts, words = one_of((32, 64))
        >>> accepts(32), accepts(32.0), accepts([32]), words
        (True, False, False, 'one of 32, 64')
    """
    kinds = tuple({type(choice) for choice in choices})
    return lambda value: isinstance(value, kinds) and value in choices, f"one of {', '.join(map(str, choices))}"


def check_rules(settings: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse settings of a model outside their range, all offending ones at once.

    Args:
        settings: Arguments of the model by name; those without a rule are left alone.
        rules: The rule of each setting.

    Raises:
        SettingError: If one is out of range.

    Example:
        >>> check_rules({"lr": -0.1, "seed": None}, {"lr": ABOVE_ZERO})
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: lr = -0.1
          expected: lr > 0 and finite
          next step: correct it in the configuration under model.init_args
    """
    wrong = {name: value for name, value in settings.items() if name in rules and not rules[name][0](value)}
    refuse_settings(wrong, {name: expected for name, (_, expected) in rules.items()}, "model.init_args")


def check_architecture(names: Sequence[str], settings: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another architecture.

    Args:
        names: Settings without which a checkpoint's weights do not fit or mean something else.
        settings: Settings of the model that is to take the weights.
        checkpoint: Settings of the model that the checkpoint holds; empty for a checkpoint of another kind.

    Raises:
        SettingError: If they differ; it names each setting with both values.
    """
    differing = [name for name in names if checkpoint.get(name, "absent") != settings[name]]
    if differing:
        raise SettingError(
            "a checkpoint with " + ", ".join(f"{name} = {checkpoint.get(name, 'absent')!r}" for name in differing),
            "what this model is built with: " + ", ".join(f"{name} = {settings[name]!r}" for name in differing),
            "use the settings that the checkpoint was trained with (report/model.yaml in its results folder)",
        )
