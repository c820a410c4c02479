"""Settings out of range are refused, with the range."""

from __future__ import annotations

import pytest

from anomalib_cxr import LungAtlas
from anomalib_cxr.errors import SettingError
from anomalib_cxr.utils.settings import check_settings

PLACE = "model.init_args"
WRONG = {
    "image_size": (100, "one of 128, 256, 512"),
    "n_folds": (1, ">= 2 and whole"),
    "n_components": (0, ">= 1 and whole"),
    "n_textures": (2.5, ">= 1 and whole"),
    "n_dims": (101, "from 1 to 100 and whole"),
    "n_bank": (2, ">= 3 and whole"),
    "max_images": (59, ">= 60 and whole"),
}


@pytest.mark.parametrize("name", WRONG)
def test_out_of_range(name):
    value, expected = WRONG[name]
    with pytest.raises(SettingError, match=f"(?s)found: {name} = {value}.*expected: {name} {expected}"):
        check_settings(LungAtlas.__init__, {name: value}, PLACE)


def test_all_offending_ones_are_named_at_once():
    with pytest.raises(SettingError) as error:
        check_settings(LungAtlas.__init__, {name: value for name, (value, _) in WRONG.items()}, PLACE)
    assert all(f"{name} = " in str(error.value) for name in WRONG)


@pytest.mark.parametrize("value", [True, "128", None, -1, float("nan")])
def test_what_is_no_whole_number_above_zero(value):
    for name in ("n_folds", "n_dims", "n_bank", "max_images", "image_size"):
        with pytest.raises(SettingError, match=name):
            check_settings(LungAtlas.__init__, {name: value}, PLACE)


def test_the_least_is_accepted():
    check_settings(LungAtlas.__init__, {
        "image_size": 128, "segmenter": None, "n_folds": 2, "n_components": 1, "n_textures": 1, "n_dims": 1,
        "n_bank": 3,
        "max_images": 60, "seed": -3,
    }, PLACE)  # fmt: skip
    check_settings(LungAtlas.__init__, {"segmenter": "runs/segmenter.pt", "n_dims": 100}, PLACE)
