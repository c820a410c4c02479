"""Which settings RoiSureGanomaly takes, and what it says of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from anomalib_cxr.functional import DISTANCES
from anomalib_cxr.functional.alignment import ALIGNMENTS
from anomalib_cxr.functional.normalization import NORMALIZATIONS
from anomalib_cxr.models.base.settings import (
    ABOVE_ZERO,
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    BETAS,
    Rule,
    check_rules,
    is_count,
    one_of,
)

from .adversary import AdversaryName
from .loss import RECONSTRUCTIONS
from .members import GENERATORS
from .scores import SCORES

Target = Literal["lungs", "image"]
TARGETS: tuple[str, ...] = get_args(Target)
InputRegion = Literal["image", "lungs"]
INPUT_REGIONS: tuple[str, ...] = get_args(InputRegion)
Channels = Literal[1, 3]
Calibration = Literal["none", "exposure"]
IMAGE_SIZES = (32, 64, 128, 256, 512)

ARCHITECTURE_BEFORE: dict[str, Any] = {
    "generator": "dcgan",
    "adversary": "feature_matching",
    "distance": "euclidean",
    "n_channels": 1,
    "input_region": "image",
    "alignment": "none",
    "normalization": "global",
    "score": "latent",
    "calibration": "none",
    "n_folds": 1,
}
"""What checkpoints hold that were written before these settings were there."""
ARCHITECTURE = ("image_size", "latent_dim", "n_features", "max_features", "target", *ARCHITECTURE_BEFORE)
"""Settings without which a checkpoint's weights do not fit or mean something else."""


_RULES: dict[str, Rule] = {
    "image_size": one_of(IMAGE_SIZES),
    "reconstruction": one_of(RECONSTRUCTIONS),
    "target": one_of(TARGETS),
    "input_region": one_of(INPUT_REGIONS),
    "segmenter_steps": AT_LEAST_ONE,
    "alignment": one_of(ALIGNMENTS),
    "normalization": one_of(NORMALIZATIONS),
    "score": one_of(SCORES),
    "n_folds": AT_LEAST_ONE,
    "generator": one_of(tuple(GENERATORS)),
    "adversary": one_of(get_args(AdversaryName)),
    "distance": one_of(tuple(DISTANCES)),
    "n_channels": one_of(get_args(Channels)),
    "sigma": AT_LEAST_ZERO,
    "gain": AT_LEAST_ZERO,
    "tau": ABOVE_ZERO,
    "w_adv": AT_LEAST_ZERO,
    "w_enc": AT_LEAST_ZERO,
    "w_rec": AT_LEAST_ZERO,
    "w_gp": AT_LEAST_ZERO,
    "n_critic": AT_LEAST_ONE,
    "instance_noise": AT_LEAST_ZERO,
    "latent_dim": AT_LEAST_ONE,
    "n_features": AT_LEAST_ONE,
    "max_features": (lambda value: value is None or is_count(value), ">= 1 and whole, or null for no cap"),
    "lr": ABOVE_ZERO,
    "betas": BETAS,
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings outside their range, all offending ones at once.

    Args:
        settings: Arguments of the model by name.

    Raises:
        SettingError: If one is out of range.

    Example:
        >>> check_settings({"sigma": -0.1, "tau": 0.01})
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: sigma = -0.1
          expected: sigma >= 0 and finite
          next step: correct it in the configuration under model.init_args
    """
    segmenter: Rule = (
        lambda value: value is None or (needs_lungs(settings) and isinstance(value, str)),
        "null, or with input_region lungs, an alignment, normalization lung or calibration exposure the path of one",
    )
    accepts, words = one_of(get_args(Calibration))
    calibration: Rule = (
        lambda value: accepts(value) and (value == "none" or settings.get("n_folds", 1) != 1),
        f"{words}; exposure with n_folds >= 2: scores of images that were learned from say nothing of those of others",
    )
    ahead = settings.get("adversary") == "wgan_gp" and settings.get("n_critic") != 1
    accumulate: Rule = (
        lambda value: is_count(value) and (value == 1 or not ahead),
        ">= 1 and whole; 1 where the critic of wgan_gp takes steps of its own (n_critic > 1)",
    )
    check_rules(
        settings,
        {**_RULES, "segmenter": segmenter, "calibration": calibration, "accumulate_grad_batches": accumulate},
    )


def needs_lungs(settings: Mapping[str, Any]) -> bool:
    """Tell whether settings of the model ask for a segmenter inside it.

    Example:
        >>> needs_lungs({"alignment": "rows"}), needs_lungs({"target": "lungs"})
        (True, False)
    """
    off = {"input_region": "image", "alignment": "none", "calibration": "none"}
    asked = any(settings.get(name, value) != value for name, value in off.items())
    return asked or settings.get("normalization") == "lung"
