"""The folder of a training. Its export by a real training's checkpoint is in the tests of the command."""

from __future__ import annotations

import os

import pytest

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration_data import data_of, exported_of


@pytest.fixture
def training(tmp_path):
    for name in ("weights/lightning/model.ckpt", "report/model.yaml", "weights/openvino/model.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def test_an_exported_model_is_taken_as_it_is(exported):
    assert exported_of(exported) == exported
    assert exported_of(exported / "model.xml") == exported / "model.xml"


def test_an_export_that_is_there_is_taken(training):
    os.utime(training / "weights/lightning/model.ckpt", (1, 1))
    assert exported_of(training) == training / "weights" / "openvino"


def test_something_else(tmp_path):
    with pytest.raises(ScreeningError, match=r"without model.xml and without .*model.ckpt and .*model.yaml\n"):
        exported_of(tmp_path)


def test_data(tmp_path):
    assert data_of(tmp_path) is None
    (tmp_path / "config.yaml").write_text("data:\n  class_path: anomalib_cxr.ChestPhantom\n  init_args: {size: 64}\n")
    assert data_of(tmp_path) == {"class_path": "anomalib_cxr.ChestPhantom", "init_args": {"size": 64}}
