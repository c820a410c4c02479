"""Settings out of range are refused at construction, with the range."""

from __future__ import annotations

import re
from dataclasses import asdict
from inspect import signature

import numpy as np
import pytest
import torch

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.roi_sure_ganomaly.settings import NetworkSettings, SureSettings

from ..xrays import grouped

SIZES = "one of 32, 64, 128, 256, 512"
SEGMENTER = "null, or a path where lungs.* or ensemble.exposure_adjustment need a segmenter"
WHOLE, POSITIVE, NOT_NEGATIVE = ">= 1 and whole", "> 0 and finite", ">= 0 and finite"
BAD = [
    *(("image_size", value, SIZES) for value in (16, 100, 1024, 64.0, (64, 64), None)),
    ("reconstruction", "SURE", "one of sure, l2, l1, pg_sure"),
    ("reconstruction", ["sure"], "one of sure, l2, l1, pg_sure"),
    ("target", "lung", "one of lungs, image"),
    ("score", "painting", "one of latent, residual, mahalanobis"),
    ("distance", "l2", "one of euclidean, mean_squared"),
    ("network.generator", "unet", "one of dcgan, residual_unet"),
    ("network.latent_dim", 0, WHOLE),
    ("network.latent_dim", 1.5, WHOLE),
    ("network.n_features", True, WHOLE),
    ("network.max_features", 0, f"{WHOLE}, or null"),
    ("network.n_channels", 2, "one of 1, 3"),
    ("network.decoder_activation", "gelu", "one of leaky_relu, relu"),
    ("network.n_channels", 3.0, "one of 1, 3"),
    ("lungs.input_region", "lung", "one of image, lungs"),
    ("lungs.alignment", "row", "one of none, box, rows"),
    ("lungs.normalization", "lungs", "one of global, lung, local"),
    ("lungs.segmenter", "a.pt", SEGMENTER),
    ("lungs.segmenter_steps", 0, WHOLE),
    *(("sure.sigma", value, NOT_NEGATIVE) for value in (-0.01, "0.1", float("nan"), float("inf"), None)),
    ("sure.gain", -1e-3, NOT_NEGATIVE),
    ("sure.tau", 0, POSITIVE),
    ("sure.tau", -1e-3, POSITIVE),
    ("adversary.scheme", "wgan", "one of feature_matching, wgan_gp"),
    ("adversary.n_critic", 0, WHOLE),
    ("adversary.gradient_penalty", -1, NOT_NEGATIVE),
    ("adversary.instance_noise", -0.1, NOT_NEGATIVE),
    ("weights.adversarial", -1, NOT_NEGATIVE),
    ("weights.latent", -1.0, NOT_NEGATIVE),
    ("weights.reconstruction", float("nan"), NOT_NEGATIVE),
    ("optimizer.lr", 0.0, POSITIVE),
    ("optimizer.lr", float("inf"), POSITIVE),
    *(
        ("optimizer.betas", value, "two numbers in [0, 1)")
        for value in ((0.5, 1.0), (-0.1, 0.9), (0.5,), 0.5, (0.5, None))
    ),
    ("optimizer.accumulate_grad_batches", 0, WHOLE),
    ("ensemble.n_folds", 0, WHOLE),
    ("ensemble.n_folds", 2.0, WHOLE),
    ("ensemble.exposure_adjustment", True, "false, or true with ensemble.n_folds >= 2: scores of images"),
]
GOOD = {
    "image_size": 32, "network__latent_dim": 1, "network__n_features": 1, "network__max_features": 1, "sure__sigma": 0,
    "sure__tau": 1e-6, "weights__adversarial": 0, "weights__latent": 0, "weights__reconstruction": 0,
    "optimizer__lr": 1, "optimizer__betas": [0, 0.999], "reconstruction": "l1", "target": "image", "sure__gain": 0,
    "adversary__gradient_penalty": 0, "adversary__n_critic": 1, "adversary__instance_noise": 0,
    "network__n_channels": 3, "network__generator": "residual_unet", "adversary__scheme": "wgan_gp",
    "distance": "mean_squared", "lungs__segmenter_steps": 1,
}  # fmt: skip
TINY = {"image_size": 32, "network__n_features": 2, "network__latent_dim": 2}


class TestSettings:
    @pytest.mark.parametrize(("name", "value", "allowed"), BAD)
    def test_refused_with_the_range(self, name, value, allowed):
        expected = rf"found: {re.escape(f'{name} = {value!r}')}\n  expected: {re.escape(f'{name} {allowed}')}"
        with pytest.raises(SettingError, match=expected):
            RoiSureGanomaly(**grouped({**TINY, name.replace(".", "__"): value}))

    def test_all_of_all_groups_are_listed_at_once(self):
        with pytest.raises(SettingError, match=r"found: network.latent_dim = 0, sure.sigma = -1\n") as caught:
            RoiSureGanomaly(sure=SureSettings(sigma=-1), network={"latent_dim": 0})
        assert caught.value.expected == f"network.latent_dim {WHOLE}, sure.sigma {NOT_NEGATIVE}"
        assert "model.init_args" in caught.value.next_step

    def test_accumulation_does_not_go_with_steps_of_the_critic_alone(self):
        with pytest.raises(SettingError, match=r"accumulate_grad_batches 1 where the critic of wgan_gp takes steps"):
            RoiSureGanomaly(optimizer={"accumulate_grad_batches": 2}, adversary={"scheme": "wgan_gp"})

    @pytest.mark.parametrize(
        "settings",
        [
            GOOD,
            {**TINY, "sure__sigma": np.float32(0.1), "network__n_features": np.int64(2)},
            {**TINY, "lungs__segmenter": "a.pt", "lungs__input_region": "lungs"},
            {**TINY, "lungs__segmenter": "a.pt", "lungs__alignment": "box"},
            {**TINY, "lungs__segmenter": "a.pt", "lungs__normalization": "lung"},
            {**TINY, "lungs__segmenter": "a.pt", "ensemble__exposure_adjustment": True, "ensemble__n_folds": 2},
        ],
    )
    def test_the_ends_of_the_ranges_are_allowed(self, settings):
        assert RoiSureGanomaly(**grouped(settings)).model is not None

    def test_a_checkpoint_holds_plain_values(self):
        model = RoiSureGanomaly(image_size=32, network=NetworkSettings(n_features=2), sure=SureSettings(sigma=0.3))
        assert model.hparams["network"] == asdict(NetworkSettings(n_features=2))
        assert model.hparams["sure"] == {"sigma": 0.3, "gain": 0.002, "tau": 0.01}

    def test_the_models_defaults_are_the_dissertations(self):
        defaults = {name: argument.default for name, argument in signature(RoiSureGanomaly).parameters.items()}
        expected = {
            "image_size": 256, "reconstruction": "sure", "target": "lungs", "score": "latent", "distance": "euclidean",
            "weights__adversarial": 1, "weights__latent": 1, "weights__reconstruction": 50, "network__latent_dim": 100,
            "network__n_features": 64, "network__max_features": None, "network__n_channels": 1, "optimizer__lr": 2e-4,
            "optimizer__betas": (0.5, 0.999), "network__generator": "dcgan", "adversary__scheme": "feature_matching",
            "adversary__instance_noise": 0, "lungs__input_region": "image", "lungs__alignment": "none",
            "lungs__normalization": "global", "ensemble__n_folds": 1, "ensemble__exposure_adjustment": False,
        }  # fmt: skip
        for name, value in expected.items():
            group, _, field = name.partition("__")
            assert (getattr(defaults[group], field) if field else defaults[group]) == value, name


def test_groups_survive_a_checkpoint_that_is_read_without_code(tmp_path):
    torch.save({"hyper_parameters": dict(RoiSureGanomaly(**grouped(TINY)).hparams)}, tmp_path / "model.ckpt")
    read = torch.load(tmp_path / "model.ckpt", weights_only=True)["hyper_parameters"]
    assert RoiSureGanomaly(**read).hparams == read
