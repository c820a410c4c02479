"""One run of the grid: train, choose the epoch on validation, score validation and test, and write all down."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from anomalib.callbacks.checkpoint import ModelCheckpoint
from anomalib.engine import Engine
from anomalib.pipelines.components import Job
from lightning.pytorch import seed_everything
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose

from anomalib_cxr.benchmark.plan.checks import make
from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, SCORE_COLUMNS, Run
from anomalib_cxr.evaluation.metrics.exposure_adjusted import measure_exposure
from anomalib_cxr.utils.provenance import code_record, write_record

from .recorder import PeakMemory, ScoreRecorder

logger = logging.getLogger(__name__)


class RunJob(Job):
    """A run, whose folder appears complete or not at all; a failure is a folder that says so.

    Args:
        run: What to run.
        folder: Folder of the benchmark.
        place: Its place among the runs, for the message at its end.
    """

    name = "run"

    def __init__(self, run: Run, folder: Path, place: str = "1 of 1") -> None:
        super().__init__()
        self.of = run
        self.folder = folder
        self.place = place

    def run(self, task_id: int | None = None) -> dict[str, Any]:
        """Train and score; a failure becomes the record of the run, so that the others go on."""
        with whole_run(self.of, self.folder) as (partial, record), _output_to(partial / "log.txt"):
            try:
                record |= {"status": DONE, **_train_and_score(self.of.settings, self.of.seed, task_id, partial)}
            except Exception as error:  # whatever it is, it is written down and the others go on
                logger.exception("The run failed.")
                record |= {"status": FAILED, "reason": f"{type(error).__name__}: {error}"}
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)  # in a process of its own
        logger.info("%s: %s: %s", self.place, self.of, _outcome(record))
        return record

    @staticmethod
    def collect(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records as they are: what they stand for lies in the folders of the runs."""
        return results

    @staticmethod
    def save(results: list[dict[str, Any]]) -> None:
        """Do nothing: each run has saved itself."""


@contextmanager
def whole_run(run: Run, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Lend a temporary folder and a record, and put them in the run's place at the end.

    Args:
        run: The run.
        folder: Folder of the benchmark.
    """
    target = folder / run.place
    partial = target.with_name(f".partial-{target.name}")
    for former in (partial, target):
        shutil.rmtree(former, ignore_errors=True)
    partial.mkdir(parents=True)
    record = {"data": run.data, "system": run.system, "split": run.split, "seed": run.seed}
    record |= {"config": run.settings, **code_record()}
    yield partial, record
    write_record(record, partial / "run.json")
    partial.rename(target)


def _outcome(record: dict[str, Any]) -> str:
    if record["status"] == FAILED:
        return f"failed: {record['reason']}"
    return f"trained in {record['train_seconds']:.0f} s, best epoch {record['best_epoch']}"


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what libraries print and log to a file: many runs at once would only bury each other's words."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    before = {each: each.handlers for each in loggers if each.handlers}
    with path.open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            for each in loggers[:1] + list(before):
                each.handlers = [logging.StreamHandler(log)]
            yield
        finally:
            for each in loggers[:1] + list(before):
                each.handlers = before.get(each, [])


def _train_and_score(settings: dict[str, Any], seed: int, task_id: int | None, folder: Path) -> dict[str, Any]:
    """Do the run, write its tables and `residuals.png`, and return what its record says of it."""
    torch.set_num_threads(settings["threads"])
    seed_everything(seed, workers=True)
    made = make(settings)
    model, datamodule = made.model, made.data
    datamodule.prepare_data()
    datamodule.setup()
    if settings.get("exposure"):
        _write_exposure(datamodule, folder / "exposure.csv")
    recorder = ScoreRecorder(_sources(datamodule))
    with TemporaryDirectory() as scratch, PeakMemory() as memory:
        engine = Engine(
            callbacks=[recorder, ModelCheckpoint(save_top_k=0)],  # its presence keeps anomalib's own away
            default_root_dir=scratch,
            enable_progress_bar=False,
            enable_model_summary=False,
            **_trainer_arguments(settings["trainer"], task_id),
        )
        began = time.perf_counter()
        engine.fit(model, datamodule=datamodule)
        train_seconds = time.perf_counter() - began
        scores = list(_score(engine, model, datamodule, recorder, made.shifts, folder))
    pd.DataFrame(recorder.epochs).to_csv(folder / "epochs.csv", index=False)
    pd.concat(scores)[list(SCORE_COLUMNS)].to_csv(folder / "scores.csv", index=False)
    return {
        "train_seconds": train_seconds,
        "seconds_per_image": recorder.seconds_per_image,
        "parameters": sum(weights.numel() for weights in model.model.parameters()),
        "peak_memory_bytes": memory.peak,
        "device": memory.device,
        "n_train": len(datamodule.train_data),
        "best_epoch": recorder.best_epoch,
        "last_epoch": recorder.epochs[-1]["epoch"],
    }


def _write_exposure(datamodule: Any, path: Path) -> None:
    """Measure the exposure of the images of validation and test, which are the same ones in some protocols."""
    scored = pd.concat([datamodule.val_data.samples, datamodule.test_data.samples]).drop_duplicates("image_path")
    measure_exposure(datamodule.train_data.samples, scored).to_csv(path, index=False)


def _sources(datamodule: Any) -> dict[str, str]:
    """Return the hospital of each image by its path, where the data tell it."""
    tables = [subset.samples for subset in (datamodule.val_data, datamodule.test_data)]
    return {
        path: source
        for table in tables
        if "source" in table
        for path, source in zip(table.image_path, table.source, strict=True)
    }


def _trainer_arguments(asked: dict[str, Any], task_id: int | None) -> dict[str, Any]:
    """Give each of several runs at a time a GPU of its own, where they run on GPUs."""
    on_gpus = task_id is not None and torch.cuda.is_available() and asked.get("accelerator", "auto") != "cpu"
    return {**asked, "devices": [task_id % torch.cuda.device_count()]} if on_gpus else asked  # type: ignore[operator]


def _score(
    engine: Engine, model: Any, datamodule: Any, recorder: ScoreRecorder, shifts: dict[str, Any], folder: Path
) -> Iterator[pd.DataFrame]:
    """Yield the scores of validation and test, by the last weights and by those chosen on validation.

    Shifted test images are scored by the chosen weights only.
    """
    yield recorder.tables["val"].assign(subset="val", weights="last", shift="")
    yield recorder.tables["best_val"].assign(subset="val", weights="best", shift="")
    last_is_best = recorder.best_epoch == recorder.epochs[-1]["epoch"]
    recorder.sheet = folder / "residuals.png" if last_is_best else None
    tested = _test(engine, model, datamodule, recorder)
    yield tested.assign(weights="last")
    if not last_is_best:
        recorder.restore_best(model)
        recorder.sheet = folder / "residuals.png"
        tested = _test(engine, model, datamodule, recorder)
    yield tested.assign(weights="best")
    for shift in shifts.items():
        yield _test(engine, model, datamodule, recorder, *shift).assign(weights="best")


def _test(
    engine: Engine, model: Any, datamodule: Any, recorder: ScoreRecorder, shift: str = "", transform: Any = None
) -> pd.DataFrame:
    """Score the test images, as they are or shifted."""
    loader = datamodule.test_dataloader()
    if transform is not None:
        dataset = copy(loader.dataset)
        dataset.augmentations = Compose([each for each in (transform, dataset.augmentations) if each is not None])
        loader = DataLoader(dataset, loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn)
    engine.trainer.test(model, loader, verbose=False)
    recorder.sheet = None  # one sheet, of the images as they are
    table: pd.DataFrame = recorder.tables["test"].assign(subset="test", shift=shift)
    return table
