"""Callback that writes curves, tables and images of a training and a test to the results folder."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.provenance import write_record

from .canvas import save_figure
from .figures import best_epoch, is_auroc, loss_curves, roc_figure, score_histogram
from .residual_sheet import residual_sheet, score_images, test_dataset
from .run_record import read_config, run_record, write_model_config
from .scores import COLUMNS, ImageScore, choose_examples, no_roc_reason, score_table, scores_of_batch

logger = logging.getLogger(__name__)


class TrainingReport(Callback):
    """Callback that writes loss curves, ROC curve and residual sheet to `report/` in the results folder.

    - At the start: `run.json` (`run_test.json` for a test without training) with seed, versions, machine and settings,
      and `model.yaml`, the configuration for `anomalib export`.
    - After each epoch: `losses.csv` and `loss_curves.png`.
    - After a test: `scores.csv`, and if the test set has both classes, `roc_curve.png`, `score_histogram.png` and
      `residuals.png`. A log message lists these files, the tested weights, and the command for the next step.

    It works with every `AnomalibModule`. Files are written atomically.

    Example:
        In a configuration::

            trainer:
              callbacks:
                - class_path: anomalib_cxr.TrainingReport

        In Python:

        >>> from anomalib.engine import Engine
        >>> engine = Engine(callbacks=[TrainingReport()])
    """

    def __init__(self) -> None:
        self._epochs: list[dict[str, float]] = []
        self._logged_before: dict[str, torch.Tensor] = {}
        self._epoch_of_weights: int | None = None
        self._trained_here = False
        self._was_tested = False
        self._checkpoint: Path | None = None
        self._scores: list[ImageScore] = []
        self._message: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the scalars of all epochs, for the checkpoint of a resumed training."""
        return {"epochs": self._epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs of a checkpoint, except for a test after a training in the same process.

        Args:
            state_dict: From :meth:`state_dict`.
        """
        if not self._trained_here:
            self._epochs = list(state_dict["epochs"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the epoch of the weights of a checkpoint."""
        del trainer, pl_module
        self._epoch_of_weights = checkpoint.get("epoch")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the provenance record, after the model has seeded its training."""
        self._write_provenance(trainer, pl_module, "run.json")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the scores of an earlier test, and write the provenance record of a test without training."""
        self._scores, self._was_tested = [], True
        if not self._trained_here:
            self._write_provenance(trainer, pl_module, "run_test.json")

    def _write_provenance(self, trainer: Trainer, pl_module: LightningModule, name: str) -> None:
        config = read_config(trainer)
        if not trainer.is_global_zero:
            return
        write_record(run_record(trainer, pl_module, config), _folder(trainer) / name)
        if config is not None:
            write_model_config(config, _folder(trainer) / "model.yaml")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the scalars of an epoch, and plot all so far."""
        logged = dict(trainer.callback_metrics)
        # After an epoch without validation Lightning repeats the last validation's values, as the same tensors.
        fresh = {name: value for name, value in logged.items() if value is not self._logged_before.get(name)}
        self._logged_before = logged
        if trainer.current_epoch < getattr(pl_module, "first_scoring_epoch", 0):  # scores are meaningless before
            fresh = {name: value for name, value in fresh.items() if not is_auroc(name)}
        self._epoch_of_weights, self._trained_here = trainer.current_epoch, True
        self._epochs.append({"epoch": trainer.current_epoch, **{name: value.item() for name, value in fresh.items()}})
        if trainer.is_global_zero:
            self._write_losses(_folder(trainer))

    def _write_losses(self, folder: Path) -> None:
        history = pd.DataFrame(self._epochs)
        _write_table(history, folder / "losses.csv")
        if len(history.columns) > 1:
            save_figure(loss_curves(history), folder / "loss_curves.png")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the checkpoint of this training, which Lightning drops when another one is tested."""
        del pl_module
        saved = getattr(trainer.checkpoint_callback, "best_model_path", "")
        self._checkpoint = Path(saved) if saved else None

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the scores of a batch, before the post-processor (a callback of the model) changes them."""
        del trainer, pl_module, args, kwargs
        self._scores += scores_of_batch(outputs)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write tables and plots of the test."""
        scores = _gather(self._scores)
        if not trainer.is_global_zero:
            return
        if scores:
            self._write_test(trainer, pl_module, scores)
        else:
            logger.warning("The test gave no scores with image paths: no scores.csv and no plots of the test.")
        self._message = self._closing_message(trainer, pl_module)

    def _write_test(self, trainer: Trainer, pl_module: Any, scores: list[ImageScore]) -> None:
        folder, dataset = _folder(trainer), test_dataset(trainer)
        samples = getattr(dataset, "samples", pd.DataFrame())
        sources = dict(zip(samples.image_path.map(str), samples.source, strict=True)) if "source" in samples else {}
        table = score_table(scores, pl_module.post_processor, sources)
        _write_table(table[COLUMNS], folder / "scores.csv")
        tested = self._tested_weights(trainer)
        no_roc = no_roc_reason(table)
        if no_roc is None:
            save_figure(roc_figure(table, tested), folder / "roc_curve.png")
            save_figure(score_histogram(table), folder / "score_histogram.png")
        else:
            logger.warning("No ROC curve and no histogram of the test: %s.", no_roc)
        chosen = choose_examples(table)
        if "image_path" in samples and len(chosen):
            examples = score_images(trainer, pl_module, dataset, chosen)
            save_figure(residual_sheet(examples, tested), folder / "residuals.png")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Log the closing message, as the last one of a test."""
        if stage == "test" and self._trained_here and not self._was_tested and trainer.is_global_zero:
            self._message = self._closing_message(trainer, pl_module)  # Lightning skips a test without images
        if self._message is not None:
            logger.info(self._message)
        self._message = None

    def _closing_message(self, trainer: Trainer, pl_module: LightningModule) -> str:
        folder, results = _folder(trainer), Path(trainer.default_root_dir)
        checkpoint = self._checkpoint or (Path(trainer.ckpt_path) if trainer.ckpt_path else None)
        lines = [
            f"Results of {type(pl_module).__name__}:",
            f"  curves, tables, images:   {_short(folder)}",
            f"  each test image:          {_short(results / 'images')}" if (results / "images").is_dir() else "",
            f"  checkpoint:               {_short(checkpoint)}" if checkpoint else "",
            f"  {self._tested_weights(trainer)}" if self._was_tested else "  Not tested: there are no test images.",
            f"  {self._best_weights()}" if self._was_tested else "",
            f"Next: {_export_command(folder / 'model.yaml', checkpoint, results)}" if checkpoint else "",
            "For research, not a medical device.",
        ]
        return "\n".join(line for line in lines if line.strip())

    def _tested_weights(self, trainer: Trainer) -> str:
        """Describe the tested weights: the last ones, or those of the checkpoint that a training was resumed from."""
        epoch = "" if self._epoch_of_weights is None else f" after epoch {self._epoch_of_weights}"
        if trainer.ckpt_path is None:
            return f"Tested: the last weights,{epoch}." if epoch else "Tested: the weights of the model as given."
        tested = f"Tested: the weights{epoch} in the given checkpoint {Path(trainer.ckpt_path).name}"
        others = f", NOT those trained now (up to epoch {self._epochs[-1]['epoch']})" if self._trained_here else ""
        return f"{tested}{others}."

    def _best_weights(self) -> str:
        """Describe the best epoch on validation, if AUROC was measured."""
        best = best_epoch(pd.DataFrame(self._epochs)) if self._epochs else None
        if best is None:
            return ""
        same = "the tested one" if best.epoch == self._epoch_of_weights else "not the tested one"
        return f"Best on validation: epoch {best.epoch} ({best.metric} {best.value:.3f}), {same}."


def _export_command(model_config: Path, checkpoint: Path, results: Path) -> str:
    """Return the export command, or the call in Python if there is no configuration of a command."""
    if not model_config.is_file():
        return f'Engine().export(model, "openvino", export_root="{_short(results)}", ckpt_path="{_short(checkpoint)}")'
    command = ["anomalib", "export", "--config", _short(model_config), "--ckpt_path", _short(checkpoint)]
    return shlex.join([*command, "--export_type", "openvino", "--export_root", _short(results)])


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "report"


def _short(path: Path) -> str:
    """Return a path relative to the working directory, if it lies below."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as unfinished:
        table.to_csv(unfinished, index=False)


def _gather(scores: list[ImageScore]) -> list[ImageScore]:
    """Gather the scores of all processes, each image once, as a distributed sampler may repeat some."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return scores
    parts: list[list[ImageScore]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, scores)
    return list({score.image_path: score for part in parts for score in part}.values())
