"""Settings of models, in groups and in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from anomalib_cxr.errors import SettingError

PLACE = "model.init_args"
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
