"""Runs that are interrupted in the middle of their training."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from anomalib_cxr.benchmark.run import checkpoint as module
from anomalib_cxr.benchmark.run.checkpoint import CHECKPOINT, TrainingCheckpoint
from anomalib_cxr.benchmark.run.job import RunJob, partial_folder

from ..runs import run_of

pytestmark = pytest.mark.slow

WAYS = [["inference", "mixed"], ["batch_statistics", "by_class"]]
GANOMALY = {
    "class_path": "anomalib.models.Ganomaly",
    "init_args": {"batch_size": 8, "n_features": 2, "latent_vec_size": 4, "visualizer": False, "evaluator": False},
}
TABLES = ("scores.csv", "epochs.csv", "scoring.csv")


class Killed(BaseException):
    """As a signal: nothing catches it."""


@pytest.fixture
def interrupted(monkeypatch):
    """Run a job that is interrupted after an epoch, whose checkpoint is written or not."""

    def interrupt(run, folder, epoch, interval=0.0):
        save = TrainingCheckpoint.on_train_epoch_end

        def save_and_die(self, trainer, pl_module):
            save(self, trainer, pl_module)
            if trainer.current_epoch == epoch:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(module, "INTERVAL", interval)
            patch.setattr(TrainingCheckpoint, "on_train_epoch_end", save_and_die)
            with pytest.raises(Killed):
                RunJob(run, folder).run()

    return interrupt


@pytest.fixture
def run(phantom_root):
    return run_of(phantom_root, epochs=5, scoring=WAYS)


@pytest.mark.parametrize("model", [{}, {"model": GANOMALY}], ids=["ours", "anomalib's"])
def test_a_resumed_training_has_the_results_of_one_that_was_not_interrupted(phantom_root, interrupted, tmp_path, model):
    run = run_of(phantom_root, epochs=5, scoring=WAYS, **model)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    RunJob(run, whole).run()
    interrupted(run, parts, epoch=1)
    interrupted(run, parts, epoch=3)
    record = RunJob(run, parts).run()
    assert record["status"] == "done"
    for table in TABLES:
        expected, found = (pd.read_csv(folder / run.folder / table) for folder in (whole, parts))
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert {path.name for path in (parts / run.folder).iterdir()} == {
        path.name for path in (whole / run.folder).iterdir()
    }


def test_it_begins_after_the_last_checkpoint(run, interrupted, tmp_path, monkeypatch):
    interrupted(run, tmp_path, epoch=2)
    epochs = []
    monkeypatch.setattr(
        TrainingCheckpoint, "on_train_epoch_end", lambda _, trainer, __: epochs.append(trainer.current_epoch)
    )
    before = torch.load(partial_folder(run, tmp_path) / CHECKPOINT, weights_only=True)["callbacks"]
    seconds = next(state["seconds"] for name, state in before.items() if "TrainingCheckpoint" in name)
    record = RunJob(run, tmp_path).run()
    assert epochs == [3, 4]
    assert record["train_seconds"] > seconds > 0


def test_without_a_checkpoint_nothing_is_left(run, interrupted, tmp_path):
    interrupted(run, tmp_path, epoch=2, interval=3600)
    assert not partial_folder(run, tmp_path).exists()


@pytest.mark.parametrize("damage", ["other settings", "no settings"])
def test_a_checkpoint_of_other_settings_is_not_used(run, interrupted, tmp_path, phantom_root, monkeypatch, damage):
    interrupted(run, tmp_path, epoch=2)
    settings = partial_folder(run, tmp_path) / "settings.json"
    if damage == "no settings":
        settings.unlink()
    else:
        settings.write_text(json.dumps(run_of(phantom_root, epochs=6).settings, sort_keys=True))
    epochs = []
    monkeypatch.setattr(
        TrainingCheckpoint, "on_train_epoch_end", lambda _, trainer, __: epochs.append(trainer.current_epoch)
    )
    assert RunJob(run, tmp_path).run()["status"] == "done"
    assert epochs == [0, 1, 2, 3, 4]


def test_what_a_killed_process_left_is_removed(run, interrupted, tmp_path):
    interrupted(run, tmp_path, epoch=2)
    partial = partial_folder(run, tmp_path)
    (partial / "tmpabc").mkdir()
    (partial / ".unfinished-training.ckpt").write_text("half")
    assert RunJob(run, tmp_path).run()["status"] == "done"
    assert not list((tmp_path / run.folder).glob("tmpabc")) + list((tmp_path / run.folder).glob(".unfinished*"))
