"""Settings out of range are refused at construction, with the range."""

from __future__ import annotations

import re
from inspect import signature

import pytest

from anomalib_cxr import Fanogan
from anomalib_cxr.errors import SettingError
from anomalib_cxr.utils.settings import check_settings

SIZES = "one of 32, 64, 128"
BAD = [
    ("image_size", 16, SIZES),
    ("image_size", 256, SIZES),
    ("image_size", 64.0, SIZES),
    ("image_size", None, SIZES),
    ("gan_epochs", 0, ">= 1 and whole"),
    ("gan_epochs", 2.5, ">= 1 and whole"),
    ("n_critic", 0, ">= 1 and whole"),
    ("n_critic", True, ">= 1 and whole"),
    ("w_gp", 0, "> 0 and finite"),
    ("w_gp", float("inf"), "> 0 and finite"),
    ("kappa", -0.1, ">= 0 and finite"),
    ("kappa", float("nan"), ">= 0 and finite"),
    ("latent_dim", 0, ">= 1 and whole"),
    ("n_features", "64", ">= 1 and whole"),
    ("lr", 0.0, "> 0 and finite"),
    ("betas", (0.0, 1.0), "two numbers in [0, 1)"),
    ("betas", (0.9,), "two numbers in [0, 1)"),
    ("lr_encoder", -5e-5, "> 0 and finite"),
]
GOOD = {
    "image_size": 128, "gan_epochs": 1, "n_critic": 1, "w_gp": 1, "kappa": 0, "latent_dim": 1, "n_features": 1,
    "lr": 1, "betas": [0, 0.5], "lr_encoder": 1,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_refused_with_the_range(name, value, allowed):
    expected = rf"found: {re.escape(f'{name} = {value!r}')}\n  expected: {name} {re.escape(allowed)}"
    with pytest.raises(SettingError, match=expected):
        check_settings(Fanogan.__init__, {**GOOD, name: value}, "model.init_args")


def test_the_ends_of_each_range_are_taken():
    check_settings(Fanogan.__init__, GOOD, "model.init_args")


def test_each_setting_of_the_model_has_a_range_or_is_anomalibs():
    others = {"seed", "pre_processor", "post_processor", "evaluator", "visualizer"}
    assert signature(Fanogan).parameters.keys() - others == GOOD.keys()
    with pytest.raises(SettingError) as caught:
        check_settings(Fanogan.__init__, dict.fromkeys(GOOD, "bad"), "model.init_args")
    assert all(f"{name} = 'bad'" in caught.value.found for name in GOOD)


def test_the_model_refuses_all_at_once():
    with pytest.raises(SettingError, match=r"image_size = 100, n_critic = 0, lr = -1\n"):
        Fanogan(image_size=100, n_critic=0, lr=-1)
