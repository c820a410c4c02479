"""The folder of a training: its exported model, exported now where that has not been done, and its data."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from anomalib_cxr.errors import ScreeningError

from .exported import GRAPH

CHECKPOINT = Path("weights/lightning/model.ckpt")
SETTINGS = Path("report/model.yaml")
CONFIG = Path("config.yaml")
EXPORT = Path("weights/openvino")


def exported_of(model: Path) -> Path:
    """Return the folder of an exported model.

    Args:
        model: That folder or its `model.xml`, which are left as they are; or the folder of a training, whose checkpoint
            is exported into it. An export that is there already and no older than the checkpoint is taken.

    Raises:
        ScreeningError: If it is none of these.
    """
    if model.suffix == ".xml" or (model / GRAPH).is_file():
        return model
    checkpoint, settings = model / CHECKPOINT, model / SETTINGS
    missing = [str(file) for file in (checkpoint, settings) if not file.is_file()]
    if missing:
        raise ScreeningError(
            f"{model}, without {GRAPH} and without {' and '.join(missing)}",
            "the folder of a model exported to OpenVINO, or of a training with callbacks.TrainingReport",
            "export the model: `anomalib export --export_type openvino`",
        )
    exported = model / EXPORT / GRAPH
    if not exported.is_file() or exported.stat().st_mtime < checkpoint.stat().st_mtime:
        found: Any = _class_of(settings).load_from_checkpoint(checkpoint, map_location="cpu")
        found.eval().to_openvino(model)
    return model / EXPORT


def data_of(model: Path) -> dict[str, Any] | None:
    """Return the data module's settings of a training; None where the folder is none."""
    config = model / CONFIG
    if not config.is_file():
        return None
    found: dict[str, Any] | None = yaml.safe_load(config.read_text(encoding="utf-8")).get("data")
    return found


def _class_of(settings: Path) -> Any:
    """Return the class that a configuration names, as anomalib's command would find it."""
    class_path = yaml.safe_load(settings.read_text(encoding="utf-8"))["model"]["class_path"]
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module or "anomalib.models"), name)
