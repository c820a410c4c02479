"""A hospital that has neither lung masks nor a segmenter nor a network: training, calibration, screening."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pandas as pd
import pytest

from anomalib_cxr.cli import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OWN = ["--data.init_args.normal_dir", "healthy", "--data.init_args.abnormal_dir", "sick"]
QUICK = ["--data.init_args.num_workers", 0, "--trainer.accelerator", "cpu"]
SMALL_ATLAS = {"n_folds": 2, "n_bank": 8, "n_components": 5, "n_textures": 5}
SMALL_GAN = {"image_size": 32, "network.n_features": 4}
CHOSEN = "the one of the package is used"

pytestmark = pytest.mark.slow


@pytest.fixture
def no_network(monkeypatch):
    """Fail whatever opens a connection."""

    def refuse(_, address):
        if isinstance(address, tuple):  # not a socket of this machine
            pytest.fail(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def train(in_process, folder, root, model, settings, *further):
    words = [word for name, value in settings.items() for word in (f"--model.init_args.{name}", value)]
    configs = ["--config", CONFIGS / "data/folder.yaml", "--config", CONFIGS / f"model/{model}.yaml"]
    in_process(folder, "train", *configs, "--data.init_args.root", root, *OWN, *QUICK, *words, *further)


@pytest.mark.usefixtures("no_network")
def test_atlas_from_training_to_worklist(in_process, tmp_path, results, own_root, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "anomalib_cxr"):
        train(in_process, tmp_path, own_root / "png", "lung_atlas", SMALL_ATLAS)
    assert sum(CHOSEN in line for line in caplog.messages) == 1
    monkeypatch.chdir(tmp_path)
    target = ["--sensitivity", "0.8", "--confidence", "0.8", "--parts", "val,test"]
    main(["calibrate", "--model", str(results.folder), *target])
    exported = str(results.folder / "weights/openvino")
    main(["screen", str(own_root / "png" / "sick"), "--model", exported, "--worklist", "worklist"])
    assert len(pd.read_csv("worklist/worklist.csv")) == 40


@pytest.mark.usefixtures("no_network")
def test_roi_sure_ganomaly(in_process, tmp_path, results, own_root, caplog):
    with caplog.at_level(logging.INFO, "anomalib_cxr"):
        train(in_process, tmp_path, own_root / "png", "roi_sure_ganomaly", SMALL_GAN, "--trainer.max_epochs", 1)
    assert sum(CHOSEN in line for line in caplog.messages) == 1
    assert results.checkpoint.is_file()
    assert len(results.table("scores.csv")) == 49
