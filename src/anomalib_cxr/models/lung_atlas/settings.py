"""Which settings LungAtlas takes, and what it says of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anomalib_cxr.models.base.exposure import LEAST_IMAGES
from anomalib_cxr.models.base.settings import AT_LEAST_ONE, Rule, check_rules, is_count, one_of

from .neighbors import N_NEAREST, PATCH

IMAGE_SIZES = (128, 256, 512)
ARCHITECTURE = ("image_size", "n_folds", "n_components", "n_textures", "n_dims", "n_bank")
"""Settings without which a checkpoint's contents do not fit or mean something else."""

_SEGMENTER_STEP = 16
_RULES: dict[str, Rule] = {
    "image_size": one_of(IMAGE_SIZES),
    "segmenter": (lambda value: value is None or isinstance(value, str), "null, or the path of a segmenter"),
    "segmenter_size": (
        lambda value: is_count(value) and value % _SEGMENTER_STEP == 0 and value >= 2 * _SEGMENTER_STEP,
        "a multiple of 16, at least 32",
    ),
    "segmenter_steps": AT_LEAST_ONE,
    "n_folds": (lambda value: is_count(value) and value > 1, ">= 2 and whole"),
    "n_components": AT_LEAST_ONE,
    "n_textures": AT_LEAST_ONE,
    "n_dims": (lambda value: is_count(value) and value <= PATCH**2, f"from 1 to {PATCH**2} and whole"),
    "n_bank": (lambda value: is_count(value) and value >= N_NEAREST, f">= {N_NEAREST} and whole"),
    "lesion_steps": (lambda value: is_count(value) and value > 1, ">= 2 and whole"),
    "max_images": (lambda value: is_count(value) and value >= LEAST_IMAGES, f">= {LEAST_IMAGES} and whole"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings outside their range, all offending ones at once.

    Args:
        settings: Arguments of the model by name.

    Raises:
        SettingError: If one is out of range.

    Example:
        >>> check_settings({"n_folds": 1})
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: n_folds = 1
          expected: n_folds >= 2 and whole
          next step: correct it in the configuration under model.init_args
    """
    check_rules(settings, _RULES)
