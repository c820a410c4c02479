"""Runs of a second each, and models that go wrong, for the tests of the benchmark."""

from __future__ import annotations

from anomalib_cxr.benchmark.plan.grid import Run

MODULE = "going_wrong"
GOING_WRONG = '''
"""Models that go wrong, importable by a process of its own."""

import os

import torch

from anomalib_cxr import RoiSureGanomaly


class Dies(RoiSureGanomaly):
    def on_train_epoch_start(self):
        os._exit(1)


class Late(RoiSureGanomaly):
    """Scores mean something from the second epoch on."""

    first_scoring_epoch = 1


class Raises(RoiSureGanomaly):
    def on_train_epoch_start(self):
        raise RuntimeError("out of luck")


class Blind(RoiSureGanomaly):
    """Scores that are not numbers, from the second epoch on."""

    def validation_step(self, batch, batch_idx):
        scored = super().validation_step(batch, batch_idx)
        if self.current_epoch > 0:
            scored.pred_score[0] = torch.nan
        return scored
'''


def settings(root, class_path="anomalib_cxr.RoiSureGanomaly", epochs=3, **changes):
    arguments = {
        "image_size": 32, "network": {"n_features": 4}, "optimizer": {"lr": 0.01}, "visualizer": False,
        "evaluator": False, "seed": 0,
    }  # fmt: skip
    data = {"root": str(root), "train_batch_size": 8, "eval_batch_size": 4, "seed": 0}
    return {
        "model": {"class_path": class_path, "init_args": arguments},
        "data": {"class_path": "anomalib_cxr.data.datamodules.base.RoiDataModule", "init_args": data},
        "trainer": {"max_epochs": epochs, "accelerator": "cpu", "devices": 1},
        "shifts": {},
        "exposure": False,
        "threads": 1,
        **changes,
    }


def run_of(root, system="ours", seed=0, **changes):
    return Run("phantoms", system, 0, seed, settings(root, **changes))
