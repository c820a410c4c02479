"""Labeled X-rays to calibrate with: from a data module's held-out parts, or from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import yaml
from anomalib.data import AnomalibDataModule
from jsonargparse import ArgumentParser

from anomalib_cxr.data.datasets.verification import verify_radiographs
from anomalib_cxr.deploy.runtime import GRAPH
from anomalib_cxr.errors import DatasetError, ScreeningError

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


Part = Literal["val", "test"]
_LABELS = {"normal": False, "0": False, "healthy": False, "sick": True, "abnormal": True, "1": True}
_COLUMNS = ("image", "label")


class Labeled(NamedTuple):
    """What a calibration learns from."""

    images: pd.DataFrame
    """Held-out images: `path`, `is_sick`, and as far as known `hospital`, `sex`, `age`."""
    references: list[Path]
    """Healthy images that show the gate what is usual."""
    masks: list[tuple[str, ...]]
    """Lung masks of each reference, to be merged; empty where there is none."""


def labeled_by_datamodule(settings: Mapping[str, Any], parts: Sequence[Part]) -> Labeled:
    """Take the held-out parts of a data module for calibration, and its training images as references.

    Args:
        settings: `class_path` and `init_args` of the data module.
        parts: Parts to calibrate with.

    Raises:
        DatasetError: If the data cannot be used.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    datamodule = parser.instantiate_classes(parser.parse_object({"data": dict(settings)})).data
    datamodule.prepare_data()
    datamodule.setup()
    tables = [getattr(datamodule, f"{part}_data").samples for part in parts]
    samples = pd.concat(tables).drop_duplicates("image_path")
    training = datamodule.train_data.samples
    images = pd.DataFrame(
        {
            "path": samples.image_path.map(Path),
            "is_sick": samples.label_index.astype(bool),
            "hospital": samples.get("source", ""),
            "sex": samples["sex"].fillna("") if "sex" in samples else "",
            "age": samples["age"].astype(float) if "age" in samples else float("nan"),
        }
    )
    masks = list(training.roi_mask_paths) if "roi_mask_paths" in training else [()] * len(training)
    return Labeled(images.reset_index(drop=True), [Path(path) for path in training.image_path], masks)


def labeled_by_table(table: Path) -> Labeled:
    """Take the images of a table; its healthy ones show the gate what is usual.

    Args:
        table: CSV with the columns `image` (path, seen from the table's folder), `label` (normal or sick), and where
            they are known `hospital`, `sex` (M or F, or a word that begins so) and `age` (years). None of the images
            may have trained the model.

    Raises:
        DatasetError: If it cannot be read, a column is missing, a label is none, or a file is not there or no X-ray.
    """
    found = _read(table)
    paths = [table.parent / image for image in found.image]
    labels = [_LABELS.get(label.strip().lower()) for label in found.label]
    missing = [path for path in paths if not path.is_file()]
    unknown = [path for path, label in zip(paths, labels, strict=True) if label is None]
    twice = [path for path, again in zip(paths, found.image.duplicated(), strict=True) if again]
    offenders = {"no such file": missing, "label neither normal nor sick": unknown, "named twice": twice}
    if any(offenders.values()) or not paths:
        raise DatasetError(
            f"{table}: {sum(map(len, offenders.values()))} of {len(paths)} rows that cannot be used",
            "a row for each image, with its path and `normal` or `sick`",
            "correct the table",
            {reason: files for reason, files in offenders.items() if files},
        )
    verify_radiographs(paths)
    images = pd.DataFrame(
        {
            "path": paths,
            "is_sick": pd.array(labels, dtype=bool),
            "hospital": found.get("hospital", ""),
            "sex": found["sex"].str.strip().str.upper().str[:1] if "sex" in found else "",
            "age": pd.to_numeric(found["age"], errors="coerce") if "age" in found else float("nan"),
        }
    )
    healthy = list(images.path[~images.is_sick])
    return Labeled(images, healthy, [()] * len(healthy))


def _read(table: Path) -> pd.DataFrame:
    try:
        found = pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{table}: {error}", f"a CSV file with the columns {', '.join(_COLUMNS)}", "correct --table"
        ) from error
    missing = [name for name in _COLUMNS if name not in found]
    if missing:
        raise DatasetError(
            f"{table} without {', '.join(missing)}; it has {', '.join(map(str, found.columns))}",
            f"the columns {', '.join(_COLUMNS)}",
            "add them",
        )
    return found
