"""Model and labeled X-rays of a calibration: a training or an export, and a data module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import yaml
from jsonargparse import ArgumentParser

from anomalib_cxr.deploy.runtime import GRAPH
from anomalib_cxr.errors import ScreeningError

CHECKPOINT = Path("weights/lightning/model.ckpt")
SETTINGS = Path("report/model.yaml")
CONFIG = Path("config.yaml")
EXPORT = Path("weights/openvino")

Part = Literal["val", "test"]


def ensure_exported(model: Path) -> Path:
    """Export a training, unless that is done.

    Args:
        model: Folder of an exported model or its `model.xml`, which are returned as they are; or folder of a training,
            whose checkpoint is exported into it unless there is an export no older than the checkpoint.

    Returns:
        The exported model.

    Raises:
        ScreeningError: If the path is none of these.
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
        module: Any = _class_of(settings).load_from_checkpoint(checkpoint, map_location="cpu")
        module.eval().to_openvino(model)
    return model / EXPORT


def data_settings(model: Path) -> dict[str, Any] | None:
    """Read the settings of the data module of a training.

    Args:
        model: Folder of the training.

    Returns:
        `class_path` and `init_args`; None where the folder has no configuration of a training.
    """
    config = model / CONFIG
    if not config.is_file():
        return None
    settings: dict[str, Any] | None = yaml.safe_load(config.read_text(encoding="utf-8")).get("data")
    return settings


def _class_of(settings: Path) -> Any:
    """Return the class that a configuration names, as anomalib's command finds it."""
    class_path = yaml.safe_load(settings.read_text(encoding="utf-8"))["model"]["class_path"]
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module or "anomalib.models"), name)


class LabeledImages(NamedTuple):
    """Images of a calibration."""

    images: pd.DataFrame
    """Held out: `path`, `is_sick`; `hospital`, `view`, `sex`, `age` where known; `patient` where all are known."""
    sixteen_bit_white: int | None = None
    """White of 16-bit images."""


def labeled_by_datamodule(settings: Mapping[str, Any], parts: Sequence[Part]) -> LabeledImages:
    """Return the held-out parts of a data module.

    Args:
        settings: `class_path` and `init_args` of the data module.
        parts: Parts to calibrate with.

    Returns:
        The labeled images.

    Raises:
        DatasetError: If the data cannot be used.
    """
    from anomalib.data import AnomalibDataModule  # noqa: PLC0415  # seconds that a table need not wait

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    datamodule = parser.instantiate_classes(parser.parse_object({"data": dict(settings)})).data
    datamodule.prepare_data()
    datamodule.setup()
    tables = [getattr(datamodule, f"{part}_data").samples for part in parts]
    samples = pd.concat(tables).drop_duplicates("image_path")
    images = pd.DataFrame(
        {
            "path": samples.image_path.map(Path),
            "is_sick": samples.label_index.astype(bool),
            "hospital": samples.get("source", ""),
            "view": samples["view"].fillna("") if "view" in samples else "",
            "sex": samples["sex"].fillna("") if "sex" in samples else "",
            "age": samples["age"].astype(float) if "age" in samples else float("nan"),
            **({"patient": samples["patient"].astype(str)} if "patient" in samples else {}),
        }
    )
    return LabeledImages(images.reset_index(drop=True), getattr(datamodule, "sixteen_bit_white", None))
