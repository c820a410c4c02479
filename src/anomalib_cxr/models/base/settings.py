"""Settings of models, in groups and in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

import torch

from anomalib_cxr.errors import SettingError

PLACE = "model.init_args"
_MOST_NAMES = 3  # of weights, in a message
Group = TypeVar("Group")


def as_group(kind: type[Group], given: Group | Mapping[str, Any]) -> Group:
    """Return a group of settings from an instance of it, or from a mapping as a checkpoint holds it.

    Args:
        kind: Dataclass of the group.
        given: An instance, or its fields by name.

    Returns:
        The instance.
    """
    return kind(**given) if isinstance(given, Mapping) else given


def as_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with groups as dictionaries, which `torch.load` reads with `weights_only=True`.

    Args:
        settings: Settings by name, some of them dataclasses.

    Returns:
        The same as plain values.
    """
    return {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in settings.items()
    }


def setting_of(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting by its dotted name.

    Args:
        settings: Settings by name; groups are mappings.
        name: Such as `seed` or `network.latent_dim`.

    Returns:
        The setting's value.

    Example:
        >>> setting_of({"network": {"latent_dim": 100}}, "network.latent_dim")
        100
    """
    value: Any = settings
    for part in name.split("."):
        value = value[part]
    return value


def check_architecture(own: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another architecture.

    Args:
        own: Settings of the model without which a checkpoint's weights do not fit or mean something else.
        checkpoint: Those of the model that the checkpoint holds; empty for a checkpoint of another kind.

    Raises:
        SettingError: If they differ; it names each setting with both values.
    """
    differing = [name for name, value in own.items() if checkpoint.get(name, "absent") != value]
    if differing:
        raise SettingError(
            "a checkpoint with " + ", ".join(f"{name} = {checkpoint.get(name, 'absent')!r}" for name in differing),
            "what this model is built with: " + ", ".join(f"{name} = {own[name]!r}" for name in differing),
            "use the settings that the checkpoint was trained with (report/model.yaml in its results folder)",
        )


def check_weights(own: Mapping[str, torch.Tensor], checkpoint: Mapping[str, torch.Tensor]) -> None:
    """Refuse the weights of a model of another version of this package, which has other parts.

    Args:
        own: State of the torch model, by name.
        checkpoint: State of the one that the checkpoint holds, by name.

    Raises:
        SettingError: If names or shapes differ; it gives some of them.
    """
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    reasons = {
        "it lacks": [name for name in expected if name not in found],
        "it has": [name for name in found if name not in expected],
        "of another shape": [name for name, shape in expected.items() if found.get(name, shape) != shape],
    }
    if any(reasons.values()):
        told = "; ".join(
            f"{reason} {', '.join(names[:_MOST_NAMES])}" + (f" and {more} more" if more > 0 else "")
            for reason, names in reasons.items()
            if names
            for more in [len(names) - _MOST_NAMES]
        )
        raise SettingError(
            f"a checkpoint that another version of this package wrote, of a model with other parts ({told})",
            "one of this version",
            "train it anew (`anomalib train`), then export and calibrate it; or use it with the version that wrote it",
        )
