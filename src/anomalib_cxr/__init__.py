"""Chest X-ray anomaly detection for anomalib, learned from healthy images only.

For research: not a medical device, and not for clinical decisions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.dataclasses import RoiImageBatch, RoiImageItem
    from .data.montgomery_shenzhen import MontgomeryShenzhen
    from .data.nih_chest_xray14 import NihChestXray14
    from .data.phantom import ChestPhantom
    from .data.predict import RadiographFolder
    from .evaluation.report import TrainingReport
    from .models.fanogan.lightning_model import Fanogan
    from .models.lung_atlas.lightning_model import LungAtlas
    from .models.roi_sure_ganomaly.lightning_model import RoiSureGanomaly

__version__ = "0.1.0"

__all__ = [
    "ChestPhantom",
    "Fanogan",
    "LungAtlas",
    "MontgomeryShenzhen",
    "NihChestXray14",
    "RadiographFolder",
    "RoiImageBatch",
    "RoiImageItem",
    "RoiSureGanomaly",
    "TrainingReport",
]

# Resolved on first use, so that `import anomalib_cxr` and `anomalib-cxr --help` do not wait for torch and anomalib.
_HOMES = {
    "ChestPhantom": "data.phantom",
    "Fanogan": "models.fanogan.lightning_model",
    "LungAtlas": "models.lung_atlas.lightning_model",
    "MontgomeryShenzhen": "data.montgomery_shenzhen",
    "NihChestXray14": "data.nih_chest_xray14",
    "RadiographFolder": "data.predict",
    "RoiImageBatch": "data.dataclasses",
    "RoiImageItem": "data.dataclasses",
    "RoiSureGanomaly": "models.roi_sure_ganomaly.lightning_model",
    "TrainingReport": "evaluation.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
