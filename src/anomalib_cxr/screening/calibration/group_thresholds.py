"""Thresholds of the groups of labeled and scored images."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomalib_cxr.errors import ScreeningError

from .groups import CalibrationTarget, group_name
from .threshold import CalibratedThreshold, calibrate_threshold, sick_needed


def refuse_too_few(images: pd.DataFrame, target: CalibrationTarget) -> None:
    """Refuse, before anything is computed, images that are too few.

    Args:
        images: `is_sick`, and `patient` where patients are known.
        target: Guarantee to calibrate for.

    Raises:
        ScreeningError: If there is no normal image, or too few sick images or patients.
    """
    n_sick, unit = _count_sick(images)
    n_normal = int((~images.is_sick).sum())
    needed = sick_needed(target.sensitivity, target.confidence)
    if n_sick < needed or not n_normal:
        raise ScreeningError(
            f"{n_normal} normal images and {n_sick} sick {unit} to calibrate with",
            f"normal ones, and at least {needed} sick ones to show {target}, if none of them is missed",
            "add labeled images (--parts val,test takes the test part too), or ask for less: --sensitivity, "
            "--confidence",
        )


def group_thresholds(scored: pd.DataFrame, target: CalibrationTarget) -> dict[str, CalibratedThreshold]:
    """Choose the threshold of each group.

    Args:
        scored: Scored images: `is_sick`, `score`, `hospital`, `sex`, `age`, and `patient` where patients are known.
        target: Guarantee and grouping.

    Returns:
        Thresholds with their guarantee by group.

    Raises:
        ScreeningError: If groups are too small; names all of them.
    """
    groups = _groups(scored, target)
    is_sick, scores = scored.is_sick.to_numpy(bool), scored.score.to_numpy(float)
    patients = scored.patient.to_numpy() if "patient" in scored else None
    needed = sick_needed(target.sensitivity, target.confidence)
    n_sick = {str(group): _count_sick(scored[groups == group])[0] for group in np.unique(groups)}
    too_small = {group: count for group, count in n_sick.items() if count < needed}
    n_normal = int((~is_sick).sum())
    if too_small or not n_sick or not n_normal:
        few = (too_small or n_sick).items()
        named = ", ".join(f"{count} of {group}" if group else str(count) for group, count in few) or "none"
        raise ScreeningError(
            f"{n_normal} normal images that the input check accepted, and sick {_count_sick(scored)[1]}: {named}",
            f"normal ones, and at least {needed} sick ones{'' if target.grouping == 'none' else ' in each group'}, "
            f"none of them missed, to show {target}",
            "add labeled images, ask for less (--sensitivity, --confidence), or take one threshold for all: --by none",
        )

    def calibrated(group: str) -> CalibratedThreshold:
        rows = groups == group
        own = None if patients is None else patients[rows]
        return calibrate_threshold(is_sick[rows], scores[rows], target.sensitivity, target.confidence, group, own)

    return {group: calibrated(group) for group in n_sick}


def with_thresholds(scored: pd.DataFrame, target: CalibrationTarget) -> pd.DataFrame:
    """Add the `threshold` of each image's group.

    Args:
        scored: Scored images, as of :func:`group_thresholds`.
        target: Guarantee and grouping.
    """
    thresholds = group_thresholds(scored, target)
    ruled: pd.DataFrame = scored.assign(threshold=[thresholds[group].threshold for group in _groups(scored, target)])
    return ruled


def _groups(scored: pd.DataFrame, target: CalibrationTarget) -> np.ndarray:
    """Return the group of each image."""
    people = zip(scored.hospital, scored.sex, scored.age, strict=True)
    return np.array(
        [group_name(target.grouping, hospital, sex, None if pd.isna(age) else age) for hospital, sex, age in people]
    )


def _count_sick(images: pd.DataFrame) -> tuple[int, str]:
    """Return the number of sick patients; of sick images where patients are not known."""
    sick = images[images.is_sick]
    return (int(sick.patient.nunique()), "patients") if "patient" in images else (len(sick), "images")
