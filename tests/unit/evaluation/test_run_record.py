"""What a run is remembered by."""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from anomalib.cli import AnomalibCLI
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

import anomalib_cxr
from anomalib_cxr.evaluation.run_record import read_config, run_record, write_model_config
from anomalib_cxr.utils.provenance import write_record


class Module(LightningModule):
    def __init__(self, width=3, folder=Path("a/b")):
        super().__init__()
        self.save_hyperparameters()


@pytest.fixture
def trainer(tmp_path):
    return Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, max_epochs=5, enable_checkpointing=False)


class TestRecord:
    def test_versions_and_machine(self, trainer):
        record = run_record(trainer, Module(), config=None)
        assert record["versions"] == {
            "anomalib_cxr": anomalib_cxr.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("anomalib", "torch", "torchvision", "lightning", "monai")},
        }
        assert record["machine"]["device"] == "cpu"
        assert datetime.fromisoformat(record["date"]).utcoffset().total_seconds() == 0

    @pytest.mark.parametrize(("variable", "seed"), [("17", 17), (None, None)])
    def test_seed_is_the_one_that_was_set(self, trainer, monkeypatch, variable, seed):
        monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        if variable is not None:
            monkeypatch.setenv("PL_GLOBAL_SEED", variable)
        assert run_record(trainer, Module(), config=None)["seed"] == seed

    def test_settings_of_a_run_from_python(self, trainer):
        config = run_record(trainer, Module(width=7), config=None)["config"]
        assert config["model"]["init_args"]["width"] == 7
        assert config["model"]["class_path"].endswith(".Module")
        assert config["data"] is None
        assert config["trainer"] == {"max_epochs": 5}

    def test_settings_of_the_command_are_kept_whole(self, trainer):
        config = {"model": {"class_path": "m"}, "data": {"class_path": "d"}}
        assert run_record(trainer, Module(), config)["config"] == config

    def test_what_json_does_not_know_stands_as_text(self, trainer, tmp_path):
        write_record(run_record(trainer, Module(), config=None), tmp_path / "run.json")
        record = json.loads((tmp_path / "run.json").read_text())
        assert record["config"]["model"]["init_args"] == {"width": 3, "folder": str(Path("a/b"))}


class TestConfig:
    def test_read_where_the_command_saves_it(self, tmp_path):
        saver = SaveConfigCallback(parser=None, config=None)
        trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, callbacks=[saver])
        (tmp_path / "config.yaml").write_text("model:\n  class_path: m\n")
        assert read_config(trainer) == {"model": {"class_path": "m"}}

    def test_that_of_an_earlier_run_is_not_taken(self, trainer, tmp_path):
        (tmp_path / "config.yaml").write_text("model:\n  class_path: m\n")
        assert read_config(trainer) is None

    def test_anomalib_export_takes_the_models_part(self, tmp_path):
        settings = {"image_size": 32, "network": {"n_features": 4, "latent_dim": 5}}
        model = {"class_path": "anomalib_cxr.RoiSureGanomaly", "init_args": settings}
        write_model_config({"optimizer": None, "model": model, "data": {}}, tmp_path / "model.yaml")
        assert yaml.safe_load((tmp_path / "model.yaml").read_text()) == {"model": model}
        words = ["export", "--config", str(tmp_path / "model.yaml"), "--export_type", "openvino"]
        cli = AnomalibCLI([*words, "--default_root_dir", str(tmp_path)], run=False)
        assert isinstance(cli.model, anomalib_cxr.RoiSureGanomaly)
        assert cli.model.hparams["image_size"] == 32
        assert settings["network"].items() <= cli.model.hparams["network"].items()
