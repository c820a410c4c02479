"""Checkpoints of another architecture."""

from __future__ import annotations

import pytest

from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.settings import check_architecture

MINE = {"image_size": 64, "network.latent_dim": 10, "network.max_features": None}


class TestArchitecture:
    def test_the_same_is_taken_whatever_else_there_is(self):
        check_architecture(MINE, {**MINE, "sure.sigma": 0.3})

    @pytest.mark.parametrize(
        ("name", "value"), [("image_size", 128), ("network.latent_dim", 100), ("network.max_features", 512)]
    )
    def test_another_is_named_with_both_values(self, name, value):
        both = rf"a checkpoint with {name} = {value!r}\n.*built with: {name} = {MINE[name]!r}\n"
        with pytest.raises(SettingError, match=both):
            check_architecture(MINE, {**MINE, name: value})

    def test_several_are_named_and_the_others_not(self):
        with pytest.raises(SettingError, match=r"latent_dim = 3, network.max_features = 4\n") as caught:
            check_architecture(MINE, {**MINE, "network.latent_dim": 3, "network.max_features": 4})
        assert "image_size" not in str(caught.value)

    def test_a_checkpoint_of_another_kind_of_model(self):
        with pytest.raises(SettingError, match=r"image_size = 'absent', network\.latent_dim = 'absent'") as caught:
            check_architecture(MINE, {})
        assert "max_features = 'absent'" in caught.value.found
