"""A callback that keeps the score of every image and the weights of the best epoch."""

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
from anomalib_cxr.evaluation.figures import save_figure
from anomalib_cxr.evaluation.scores import Scored, auroc, choose_ranks, obstacle_to_roc, score_table, scores_of
from anomalib_cxr.evaluation.sheets import residual_sheet, score_images, test_dataset

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Measures the peak of a block: on a GPU of what torch allocated there, else of the whole process.

    On Linux the kernel keeps the peak and can be told to begin anew, which makes runs comparable that follow each other
    in one process. Elsewhere the peak is that of the process since its start.

    Example:
        >>> with PeakMemory() as memory:
        ...     _ = torch.ones(10**7)
        >>> memory.peak > 4 * 10**7, memory.device in {"cpu", "cuda"} or memory.device != ""
        (True, True)
    """

    peak: int
    """In bytes, once the block has ended."""

    def __enter__(self) -> Self:
        """Begin anew."""
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
    """Records losses and validation AUROC of each epoch, and the scores of each validation and test.

    Scores are taken as the model gives them, before any post-processing: the trainer's callbacks run before the
    model's own. The weights of the epoch with the highest AUROC on validation are kept in memory, the first of
    several.

    Args:
        sources: Hospital by path.
    """

    sheet: Path | None = None
    """Where to draw the residual sheet of the next test."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources
        self.epochs: list[dict[str, float]] = []
        self.best_epoch: int | None = None
        self.tables: dict[str, pd.DataFrame] = {}
        """Scores by what was scored last under that name: `val` (the last epoch's), `best_val`, and those of tests."""
        self.seconds_per_image = float("nan")
        self._best = -1.0
        self._best_weights: dict[str, torch.Tensor] = {}
        self._scored: list[Scored] = []
        self._timed: list[tuple[float, int]] = []
        self._began = 0.0

    def restore_best(self, module: LightningModule) -> None:
        """Give the model the weights of its best epoch."""
        module.load_state_dict(self._best_weights)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the epoch before."""
        del trainer, pl_module
        self._scored = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores of a batch."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        self._scored += scores_of(outputs)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure this epoch, and keep its weights if they are the best so far."""
        table = self.tables["val"] = self._table("validation", f"after epoch {trainer.current_epoch}")
        # Some models train what scores only after other parts; until then their scores mean nothing.
        scores = trainer.current_epoch >= getattr(pl_module, "first_scoring_epoch", 0)
        value = auroc(table) if scores else float("nan")
        self.epochs.append({"epoch": trainer.current_epoch, "val_auroc": value})
        if value > self._best:
            self._best = value
            self.best_epoch = trainer.current_epoch
            self.tables["best_val"] = table
            self._best_weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the losses of the epoch, whose validation is over."""
        del pl_module
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self.epochs or self.epochs[-1]["epoch"] != trainer.current_epoch:
            raise DatasetError(
                "an epoch without validation", "a validation after each epoch", "leave check_val_every_n_epoch at 1"
            )
        self.epochs[-1].update(losses)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        del trainer, pl_module
        self._scored, self._timed = [], []

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the clock: the images are read, and not yet prepared."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        self._began = time.perf_counter()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores of a batch, and how long they took; reading them off waits for a GPU to finish."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        scored = scores_of(outputs)
        self._timed.append((time.perf_counter() - self._began, len(scored)))
        self._scored += scored

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the scores of this test into a table, and draw a sheet of it where that is asked for."""
        table = self.tables["test"] = self._table("test", "in the test")
        seconds, images = np.sum(self._timed[1:] or self._timed, axis=0)  # the first of several batches warms up
        self.seconds_per_image = float(seconds / images)
        if self.sheet is not None:
            cases = score_images(trainer, pl_module, test_dataset(trainer), choose_ranks(table))
            words = f"Weights of epoch {self.best_epoch}, the best on validation"
            save_figure(residual_sheet(cases, words), self.sheet)

    def _table(self, subset: str, when: str) -> pd.DataFrame:
        table = score_table(self._scored, sources=self.sources)
        broken = table[~np.isfinite(table.score)]
        if len(broken):
            raise DivergenceError(
                f"{len(broken)} of {len(table)} scores {when} that are not finite: {', '.join(broken.image[:10])}",
                "finite scores",
                "lower lr; the other runs are not touched by this",
            )
        obstacle = obstacle_to_roc(table)
        if obstacle is not None:
            raise DatasetError(
                f"a {subset} set of {obstacle}",
                "normal and sick images in validation and in test",
                "choose another protocol or another share of sick images",
            )
        return table
