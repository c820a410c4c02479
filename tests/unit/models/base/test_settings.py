"""Rules of single settings, and checkpoints of another architecture."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.settings import (
    ABOVE_ZERO,
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    BETAS,
    check_architecture,
    check_rules,
    one_of,
)

NAMES = ("image_size", "latent_dim", "max_features")
MINE = {"image_size": 64, "latent_dim": 10, "max_features": None, "lr": 1.0}


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (AT_LEAST_ONE, [1, np.int64(3)], [0, -1, 1.0, "1", True, None]),
        (ABOVE_ZERO, [1, 1e-9, np.float32(0.5)], [0, -1e-9, float("inf"), float("nan"), "1", True, None]),
        (AT_LEAST_ZERO, [0, 0.5], [-1e-9, float("inf"), float("nan"), False, None]),
        (BETAS, [(0, 0.9), [0.5, 0.999]], [(0.5,), (0.5, 1.0), (-0.1, 0.5), (0.5, None), 0.5, "ab"]),
        (one_of((32, 64)), [32, 64], [16, 32.0, "32", [32], None]),
        (one_of(("l1", "l2")), ["l1"], ["L1", "", 1, ["l1"]]),
    ],
)
def test_rules(rule, good, bad):
    accepts, _ = rule
    assert [value for value in good if not accepts(value)] == []
    assert [value for value in bad if accepts(value)] == []


def test_all_offending_settings_are_refused_at_once():
    rules = {"lr": ABOVE_ZERO, "size": one_of((32, 64)), "kappa": AT_LEAST_ZERO}
    with pytest.raises(SettingError, match=r"lr = 0, size = 5\n  expected: lr > 0 and finite, size one of 32, 64\n"):
        check_rules({"lr": 0, "size": 5, "kappa": 1, "seed": -1}, rules)


class TestArchitecture:
    def test_the_same_is_taken_whatever_the_training_was(self):
        check_architecture(NAMES, MINE, {**MINE, "lr": 2.0, "sigma": 0.3})

    @pytest.mark.parametrize(("name", "value"), [("image_size", 128), ("latent_dim", 100), ("max_features", 512)])
    def test_another_is_named_with_both_values(self, name, value):
        both = rf"a checkpoint with {name} = {value!r}\n.*built with: {name} = {MINE[name]!r}\n"
        with pytest.raises(SettingError, match=both):
            check_architecture(NAMES, MINE, {**MINE, name: value})

    def test_several_are_named_and_the_others_not(self):
        with pytest.raises(SettingError, match=r"latent_dim = 3, max_features = 4\n") as caught:
            check_architecture(NAMES, MINE, {**MINE, "latent_dim": 3, "max_features": 4})
        assert "image_size" not in str(caught.value)

    def test_a_checkpoint_of_another_kind_of_model(self):
        with pytest.raises(SettingError, match="image_size = 'absent', latent_dim = 'absent'") as caught:
            check_architecture(NAMES, MINE, {})
        assert "max_features = 'absent'" in caught.value.found
