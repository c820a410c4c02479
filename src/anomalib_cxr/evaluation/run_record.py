"""Record of a training or test by which it can be repeated: seed, machine, settings and code."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.provenance import code_record

_MODEL_HEADER = """\
# The settings of the model alone: `anomalib export` and `anomalib predict` take this file as --config.
# They refuse the config.yaml of a training, which has settings that only training knows.
"""


def run_record(trainer: Trainer, module: LightningModule, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Describe a run so that it can be repeated.

    Args:
        trainer: Trainer of the run.
        module: Model of the run.
        config: Configuration that the command read; None for a run from Python, for which the visible settings of model
            and data module are used.

    Returns:
        A record for JSON with `date` (UTC), `versions`, `git`, `stage`, `seed` (None if none was set), `machine` and
        `config`.
    """
    return {
        **code_record(),
        "stage": trainer.state.fn.value if trainer.state.fn else None,
        "seed": _seed(module),
        "machine": {
            "platform": platform.platform(),
            "device": _device_name(module.device),
            "processes": trainer.world_size,
            "precision": trainer.precision,
        },
        "config": config if config is not None else _visible_settings(trainer, module),
    }


def read_config(trainer: Trainer) -> dict[str, Any] | None:
    """Read the configuration that anomalib's command has saved. Call it in all processes of a run.

    Args:
        trainer: Trainer of the run.

    Returns:
        The configuration; None for a run from Python, even if its folder has a `config.yaml` of an earlier run.
    """
    saver = next((callback for callback in trainer.callbacks if isinstance(callback, SaveConfigCallback)), None)  # type: ignore[attr-defined]
    folder = trainer.log_dir  # asks process zero: hangs unless all call it
    if saver is None or folder is None:
        return None
    path = Path(folder) / saver.config_filename
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write_model_config(config: Mapping[str, Any], path: Path) -> None:
    """Write the model's part of a configuration, for anomalib's commands that accept no other settings.

    Args:
        config: Configuration of a training.
        path: YAML file.
    """
    with atomic_path(path) as unfinished:
        part = yaml.safe_dump({"model": config["model"]}, sort_keys=False)
        unfinished.write_text(_MODEL_HEADER + part, encoding="utf-8")


def _seed(module: LightningModule) -> int | None:
    """Return the model's own seed, which it sets later, or else the seed of `seed_everything`."""
    seed = getattr(module, "seed", None)
    seed = os.environ.get("PL_GLOBAL_SEED") if seed is None else seed
    return None if seed is None else int(seed)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _visible_settings(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return hyperparameters of the model, and public attributes of the data module."""
    datamodule = getattr(trainer, "datamodule", None)
    return {
        "model": {"class_path": _class_path(module), "init_args": dict(module.hparams)},
        "data": datamodule and {"class_path": _class_path(datamodule), "attributes": _plain_attributes(datamodule)},
        "trainer": {"max_epochs": trainer.max_epochs},
    }


def _class_path(instance: object) -> str:
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def _plain_attributes(instance: object) -> dict[str, Any]:
    plain = (str, int, float, bool, tuple, Path)
    return {
        name: value
        for name, value in vars(instance).items()
        if not name.startswith("_") and (value is None or isinstance(value, plain))
    }
