"""anomalib's models with pre-trained features from a local file, on whole X-rays or on aligned lungs: baselines."""

from .lung_pre_processor import AlignedLungs
from .models import (
    AnomalyDINO,
    Dinomaly,
    FoundAD,
    InpFormer,
    MHPatchcore,
    Padim,
    Patchcore,
    Rad,
    SuperADD,
)

__all__ = [
    "AlignedLungs",
    "AnomalyDINO",
    "Dinomaly",
    "FoundAD",
    "InpFormer",
    "MHPatchcore",
    "Padim",
    "Patchcore",
    "Rad",
    "SuperADD",
]
