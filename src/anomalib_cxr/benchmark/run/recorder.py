"""Record the score of every image, the weights of the best epoch, and the peak memory of a run."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import Self

from anomalib_cxr.errors import DatasetError, DivergenceError
from anomalib_cxr.evaluation.canvas import save_figure
from anomalib_cxr.evaluation.residual_sheet import residual_sheet, score_images, test_dataset
from anomalib_cxr.evaluation.scores import (
    ImageScore,
    auroc,
    choose_examples,
    no_roc_reason,
    score_table,
    scores_of_batch,
)

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Context manager that measures peak memory: allocated by torch on a GPU, else resident memory of the process.

    On Linux the kernel's peak is reset at the start of the block, so that successive runs in one process are
    comparable. On other systems it is the peak since the start of the process.

    Example:
        >>> with PeakMemory() as memory:
        ...     _ = torch.ones(10**7)
        >>> memory.peak > 4 * 10**7, memory.device in {"cpu", "cuda"} or memory.device != ""
        (True, True)
    """

    peak: int
    """In bytes, after the block."""

    def __enter__(self) -> Self:
        """Reset the peak."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif _RESET.exists():
            _RESET.write_text(_RESET_PEAK, encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Read the peak."""
        self.peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _process_peak()

    @property
    def device(self) -> str:
        """Name of the device whose memory is measured."""
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _process_peak() -> int:
    """Return the peak of the resident memory of this process, in bytes."""
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss)) if sys.platform == "win32" else int(memory.rss)


class ScoreRecorder(Callback):
    """Callback that records losses and validation AUROC of each epoch, and the scores of each validation and test.

    Scores are the model's, before post-processing, as the trainer's callbacks run before the model's own. The weights
    of the (first) epoch with the highest AUROC on validation are kept in memory.

    Args:
        sources: Hospital by image path.
    """

    sheet: Path | None = None
    """File for the residual sheet of the next test; None for no sheet."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources
        self.epochs: list[dict[str, float]] = []
        self.best_epoch: int | None = None
        self.tables: dict[str, pd.DataFrame] = {}
        """Latest scores: `val` (of the last epoch), `best_val` (of the best epoch) and `test`."""
        self.seconds_per_image = float("nan")
        self._best = -1.0
        self._best_weights: dict[str, torch.Tensor] = {}
        self._scores: list[ImageScore] = []
        self._batch_times: list[tuple[float, int]] = []  # seconds, images
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what was recorded, in types that a checkpoint may hold."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "best": self._best,
            "best_weights": self._best_weights,
            "tables": {name: table.to_dict("list") for name, table in self.tables.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self.epochs = state_dict["epochs"]
        self.best_epoch = state_dict["best_epoch"]
        self._best, self._best_weights = state_dict["best"], state_dict["best_weights"]
        self.tables = {name: pd.DataFrame(columns) for name, columns in state_dict["tables"].items()}

    def restore_best(self, module: LightningModule) -> None:
        """Load the weights of the best epoch into the model.

        Args:
            module: The trained model.
        """
        module.load_state_dict(self._best_weights)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the scores of the previous epoch."""
        del trainer, pl_module
        self._scores = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the scores of a batch."""
        del trainer, pl_module, args, kwargs
        self._scores += scores_of_batch(outputs)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute AUROC after this epoch, and keep its weights if they are the best so far."""
        table = self.tables["val"] = self._table("validation", f"after epoch {trainer.current_epoch}")
        # Some models train the scoring part after other parts; scores are meaningless before.
        is_trained = trainer.current_epoch >= getattr(pl_module, "first_scoring_epoch", 0)
        value = auroc(table) if is_trained else float("nan")
        self.epochs.append({"epoch": trainer.current_epoch, "val_auroc": value})
        if value > self._best:
            self._best = value
            self.best_epoch = trainer.current_epoch
            self.tables["best_val"] = table
            weights = pl_module.state_dict().items()
            self._best_weights = {name: tensor.detach().cpu().clone() for name, tensor in weights}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the losses of the epoch, after its validation."""
        del pl_module
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self.epochs or self.epochs[-1]["epoch"] != trainer.current_epoch:
            raise DatasetError(
                "an epoch without validation", "a validation after each epoch", "leave check_val_every_n_epoch at 1"
            )
        self.epochs[-1].update(losses)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the scores of an earlier test."""
        del trainer, pl_module
        self._scores, self._batch_times = [], []

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the clock after the images were read, before they are preprocessed."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        self._started = time.perf_counter()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the scores of a batch and its time; copying the scores waits for a GPU to finish."""
        del trainer, pl_module, args, kwargs
        scores = scores_of_batch(outputs)
        self._batch_times.append((time.perf_counter() - self._started, len(scores)))
        self._scores += scores

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tabulate the scores of this test, and draw its residual sheet if requested."""
        table = self.tables["test"] = self._table("test", "in the test")
        seconds, images = np.sum(
            self._batch_times[1:] or self._batch_times, axis=0
        )  # the first of several batches warms up
        self.seconds_per_image = float(seconds / images)
        if self.sheet is not None:
            examples = score_images(trainer, pl_module, test_dataset(trainer), choose_examples(table))
            title = f"Weights of epoch {self.best_epoch}, the best on validation"
            save_figure(residual_sheet(examples, title), self.sheet)

    def _table(self, subset: str, when: str) -> pd.DataFrame:
        table = score_table(self._scores, sources=self.sources)
        images = table.image[~np.isfinite(table.score)]
        if len(images):
            raise DivergenceError(
                f"{len(images)} of {len(table)} scores {when} that are not finite: {', '.join(images[:10])}",
                "finite scores",
                "lower lr; the other runs are not affected",
            )
        reason = no_roc_reason(table)
        if reason is not None:
            raise DatasetError(
                f"a {subset} set of {reason}",
                "normal and sick images in validation and in test",
                "choose another protocol or another share of sick images",
            )
        return table
