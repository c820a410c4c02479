"""Chest X-ray anomaly detection for anomalib, learned from healthy images only.

For research: not a medical device, and not for clinical decisions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__  # public
from .deploy.telemetry import disable_telemetry
from .utils.console import quiet_libraries

if TYPE_CHECKING:
    from anomalib_cxr.data.datamodules.chest_phantom import ChestPhantom
    from anomalib_cxr.data.datamodules.chest_xray_folder import ChestXrayFolder
    from anomalib_cxr.data.datamodules.montgomery_shenzhen import MontgomeryShenzhen
    from anomalib_cxr.data.datamodules.nih_chest_xray14 import NihChestXray14
    from anomalib_cxr.data.datasets.dataclasses import RoiImageBatch, RoiImageItem
    from anomalib_cxr.data.datasets.dataset import RadiographFolder
    from anomalib_cxr.data.datasets.detector_noise import DetectorNoise
    from anomalib_cxr.data.reading.radiograph import read_radiograph
    from anomalib_cxr.evaluation.report import TrainingReport
    from anomalib_cxr.models.fanogan.lightning_model import Fanogan
    from anomalib_cxr.models.lung_atlas.lightning_model import LungAtlas
    from anomalib_cxr.models.roi_sure_ganomaly.lightning_model import RoiSureGanomaly


__all__ = [
    "ChestPhantom",
    "ChestXrayFolder",
    "DetectorNoise",
    "Fanogan",
    "LungAtlas",
    "MontgomeryShenzhen",
    "NihChestXray14",
    "RadiographFolder",
    "RoiImageBatch",
    "RoiImageItem",
    "RoiSureGanomaly",
    "TrainingReport",
    "read_radiograph",
]

# Resolved on first use, so that `import anomalib_cxr` and `anomalib-cxr --help` do not wait for torch and anomalib.
_HOMES = {
    "ChestPhantom": "data.datamodules.chest_phantom",
    "ChestXrayFolder": "data.datamodules.chest_xray_folder",
    "DetectorNoise": "data.datasets.detector_noise",
    "Fanogan": "models.fanogan.lightning_model",
    "LungAtlas": "models.lung_atlas.lightning_model",
    "MontgomeryShenzhen": "data.datamodules.montgomery_shenzhen",
    "NihChestXray14": "data.datamodules.nih_chest_xray14",
    "RadiographFolder": "data.datasets.dataset",
    "RoiImageBatch": "data.datasets.dataclasses",
    "RoiImageItem": "data.datasets.dataclasses",
    "RoiSureGanomaly": "models.roi_sure_ganomaly.lightning_model",
    "TrainingReport": "evaluation.report",
    "read_radiograph": "data.reading.radiograph",
}

# Here and not where they matter, since other libraries send and warn as soon as they are imported.
disable_telemetry()
quiet_libraries()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    quiet_libraries()  # again: torch imports this package before anomalib's command sets up its log
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
