"""Trainers that the models do not work with, trainings without a checkpoint, and the link to the last results."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy

from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.trainer import check_processes

from ..xrays import Xrays


@pytest.mark.parametrize("precision", ["64-true", "16-true", "bf16-true"])
def test_weights_of_another_precision_than_images_are_refused(make_tiny, fit, precision):
    with pytest.raises(SettingError, match=rf"trainer.precision = {precision}\n  expected: one of 32-true, 16-mixed"):
        fit(make_tiny(target="image"), 1, precision=precision)


@pytest.mark.parametrize("every", [3, 10])
def test_a_training_without_validation_is_refused(make_tiny, fit, every):
    found = rf"trainer.check_val_every_n_epoch = {every} and trainer.max_epochs = 2\n"
    with pytest.raises(SettingError, match=found):
        fit(make_tiny(target="image"), 2, val=Xrays(), check_val_every_n_epoch=every)


def test_epochs_after_the_last_validation_are_told(make_tiny, fit, caplog):
    fit(make_tiny(target="image"), 3, val=Xrays(n_sick=4), check_val_every_n_epoch=2, limit_train_batches=1)
    assert "no checkpoint will have the last 1 epochs" in caplog.text


@pytest.mark.parametrize(("limits", "warned"), [({"max_steps": 1}, True), ({}, False)])
def test_a_training_that_ends_before_its_first_validation_is_told(make_tiny, fit, caplog, tmp_path, limits, warned):
    saving = ModelCheckpoint(tmp_path, save_on_train_epoch_end=False)
    fit(make_tiny(target="image"), 1, val=Xrays(n_sick=4), callbacks=[saving], **limits)
    assert ("No checkpoint was written" in caplog.text) == warned
    assert bool(list(tmp_path.glob("*.ckpt"))) != warned


def test_results_can_be_moved_with_their_link(make_tiny, fit, tmp_path):
    run = tmp_path / "results" / "v0"
    run.mkdir(parents=True)
    run.with_name("latest").symlink_to(run, target_is_directory=True)  # as anomalib makes it
    fit(make_tiny(target="image"), 1, default_root_dir=run, limit_train_batches=1)
    shutil.move(tmp_path / "results", tmp_path / "moved")
    assert (tmp_path / "moved" / "latest").readlink() == Path("v0")
    assert (tmp_path / "moved" / "latest").is_dir()


def test_synchronized_batch_normalization_needs_gpus():
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", sync_batchnorm=True, logger=False)
    with pytest.raises(SettingError, match=r"trainer.sync_batchnorm = True on CPUs\n  expected: GPUs"):
        check_processes(trainer)


def test_other_ways_to_split_a_model_are_refused():
    with pytest.raises(SettingError, match=r"trainer.strategy FSDPStrategy\n  expected: one device, or ddp\n"):
        check_processes(SimpleNamespace(strategy=FSDPStrategy()))
