"""Settings out of range are refused at construction, with the range."""

from __future__ import annotations

import re
from inspect import signature

import numpy as np
import pytest

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.roi_sure_ganomaly.settings import check_settings

SIZES = "one of 32, 64, 128, 256, 512"
SEGMENTER = "null, or with input_region lungs, an alignment, normalization lung or calibration exposure the path of one"
BAD = [
    ("image_size", 16, SIZES),
    ("image_size", 100, SIZES),
    ("image_size", 1024, SIZES),
    ("image_size", 64.0, SIZES),
    ("image_size", (64, 64), SIZES),
    ("image_size", None, SIZES),
    ("reconstruction", "SURE", "one of sure, l2, l1"),
    ("reconstruction", ["sure"], "one of sure, l2, l1, pg_sure"),
    ("target", "lung", "one of lungs, image"),
    ("input_region", "lung", "one of image, lungs"),
    ("segmenter", 3, SEGMENTER),
    ("segmenter", "a.pt", SEGMENTER),
    ("alignment", "row", "one of none, box, rows"),
    ("normalization", "lungs", "one of global, lung, local"),
    ("score", "painting", "one of latent, residual, mahalanobis"),
    ("calibration", True, "one of none, exposure"),
    (
        "calibration",
        "exposure",
        "one of none, exposure; exposure with n_folds >= 2: scores of images",
    ),
    ("n_folds", 0, ">= 1 and whole"),
    ("n_folds", 2.0, ">= 1 and whole"),
    ("segmenter_steps", 0, ">= 1 and whole"),
    ("generator", "unet", "one of dcgan, residual_unet"),
    ("adversary", "wgan", "one of feature_matching, wgan_gp"),
    ("distance", "l2", "one of euclidean, mean_squared"),
    ("n_channels", 2, "one of 1, 3"),
    ("n_channels", 3.0, "one of 1, 3"),
    ("gain", -1e-3, ">= 0 and finite"),
    ("w_gp", -1, ">= 0 and finite"),
    ("n_critic", 0, ">= 1 and whole"),
    ("instance_noise", -0.1, ">= 0 and finite"),
    ("sigma", -0.01, ">= 0"),
    ("sigma", "0.1", ">= 0"),
    ("sigma", float("nan"), ">= 0"),
    ("sigma", float("inf"), ">= 0 and finite"),
    ("sigma", None, ">= 0"),
    ("tau", 0, "> 0"),
    ("tau", -1e-3, "> 0"),
    ("w_adv", -1, ">= 0"),
    ("w_enc", -1.0, ">= 0"),
    ("w_rec", float("nan"), ">= 0"),
    ("latent_dim", 0, ">= 1"),
    ("latent_dim", 1.5, ">= 1 and whole"),
    ("n_features", 0, ">= 1"),
    ("n_features", True, ">= 1 and whole"),
    ("max_features", 0, ">= 1 and whole, or null for no cap"),
    ("lr", 0.0, "> 0"),
    ("lr", float("inf"), "> 0 and finite"),
    ("betas", (0.5, 1.0), "two numbers in [0, 1)"),
    ("betas", (-0.1, 0.9), "two numbers in [0, 1)"),
    ("betas", (0.5,), "two numbers in [0, 1)"),
    ("betas", 0.5, "two numbers in [0, 1)"),
    ("betas", (0.5, None), "two numbers in [0, 1)"),
]
GOOD = {
    "image_size": 64, "latent_dim": 1, "n_features": 1, "max_features": 1, "sigma": 0, "tau": 1e-6, "w_adv": 0,
    "w_enc": 0, "w_rec": 0, "lr": 1, "betas": [0, 0.999], "reconstruction": "l1", "target": "image",
    "gain": 0, "w_gp": 0, "n_critic": 1, "instance_noise": 0, "n_channels": 3, "generator": "residual_unet",
    "adversary": "wgan_gp", "distance": "mean_squared", "segmenter_steps": 1,
}  # fmt: skip


class TestSettings:
    @pytest.mark.parametrize(("name", "value", "allowed"), BAD)
    def test_refused_with_the_range(self, name, value, allowed):
        expected = rf"found: {re.escape(f'{name} = {value!r}')}\n  expected: {name} {re.escape(allowed)}"
        with pytest.raises(SettingError, match=expected):
            check_settings({**GOOD, name: value})
        with pytest.raises(SettingError, match=expected):
            RoiSureGanomaly(**{"image_size": 32, "n_features": 2, "latent_dim": 2, name: value})

    def test_all_are_listed_at_once(self):
        with pytest.raises(SettingError, match=r"found: sigma = -1, latent_dim = 0") as caught:
            RoiSureGanomaly(sigma=-1, latent_dim=0)
        assert caught.value.expected == "sigma >= 0 and finite, latent_dim >= 1 and whole"
        assert "model.init_args" in caught.value.next_step

    def test_the_ends_of_the_ranges_are_allowed(self):
        check_settings(GOOD)
        check_settings({"max_features": None, "betas": (0.0, 0.0), "sigma": np.float32(0.1), "n_features": np.int64(4)})
        for needing in ({"input_region": "lungs"}, {"alignment": "box"}, {"normalization": "lung"}):
            check_settings({**needing, "segmenter": "segmenter.pt"})
        check_settings({"calibration": "exposure", "n_folds": 2, "segmenter": "segmenter.pt"})
        RoiSureGanomaly(**{**GOOD, "image_size": 32})

    @pytest.mark.parametrize("size", [32, 64, 128, 256, 512])
    def test_each_size_is_allowed(self, size):
        check_settings({"image_size": size})

    def test_the_models_defaults_are_the_dissertations(self):
        defaults = {name: argument.default for name, argument in signature(RoiSureGanomaly).parameters.items()}
        expected = {
            "image_size": 256, "reconstruction": "sure", "target": "lungs", "w_adv": 1, "w_enc": 1, "w_rec": 50,
            "latent_dim": 100, "n_features": 64, "max_features": None, "lr": 2e-4, "betas": (0.5, 0.999),
            "generator": "dcgan", "adversary": "feature_matching", "distance": "euclidean", "n_channels": 1,
            "input_region": "image", "instance_noise": 0, "alignment": "none", "normalization": "global",
            "score": "latent", "calibration": "none", "n_folds": 1,
        }  # fmt: skip
        assert {name: defaults[name] for name in expected} == expected
