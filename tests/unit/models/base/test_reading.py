"""White of 16-bit images: taken from the data, kept in checkpoints, and not to be changed afterwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.reading import same_white


def trainer(*loaders, **datamodule):
    return SimpleNamespace(
        datamodule=SimpleNamespace(**datamodule),
        predict_dataloaders=[SimpleNamespace(dataset=SimpleNamespace(**dataset)) for dataset in loaders],
    )


@pytest.mark.parametrize("white", [None, 4095, 65535])
def test_a_new_model_takes_that_of_its_data(white):
    assert same_white(trainer(sixteen_bit_white=white), 255, learned_before=False) == white


def test_data_that_state_none_leave_it_as_it_is():
    assert same_white(trainer(), 4095, learned_before=True) == 4095


@pytest.mark.parametrize(
    "data", [trainer(sixteen_bit_white=65535), trainer({"sixteen_bit_white": None}), trainer(sixteen_bit_white=None)]
)
def test_another_one_is_refused_afterwards(data):
    with pytest.raises(SettingError, match=r"data with sixteen_bit_white = .*\n.*4095, as the model was trained"):
        same_white(data, 4095, learned_before=True)


def test_checkpoints_keep_it():
    tiny = {"image_size": 32, "network": {"n_features": 4, "latent_dim": 5}, "visualizer": False}
    first, second = RoiSureGanomaly(**tiny), RoiSureGanomaly(**tiny)
    checkpoint = {"state_dict": first.state_dict()}
    first.sixteen_bit_white = 4095
    first.on_save_checkpoint(checkpoint)
    second.on_load_checkpoint(checkpoint)
    assert second.sixteen_bit_white == 4095
