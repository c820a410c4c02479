"""Run one training of the grid: train, choose the epoch on validation, score validation and test images."""

from __future__ import annotations

import logging
import shutil
import sys
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

from anomalib_cxr.benchmark.plan.classes import instantiate
from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, MAP_COLUMNS, SCORE_COLUMNS, Run, ScoringWay
from anomalib_cxr.evaluation.metrics.exposure_adjusted import measure_exposure
from anomalib_cxr.evaluation.metrics.negative_control import measure_control
from anomalib_cxr.utils.provenance import code_record, write_record

from .checkpoint import CHECKPOINT, LOG, TrainingCheckpoint, close_partial, discard_partial, open_partial
from .maps import MapRecorder
from .recorder import PeakMemory, ScoreRecorder
from .scoring import ScoringRecorder

logger = logging.getLogger(__name__)


class RunJob(Job):
    """Job of one run, whose folder appears complete or not at all. A failure is recorded in the folder.

    Args:
        planned: The run.
        folder: Folder of the benchmark.
        progress: Position among the runs, for the log message at the end.
    """

    name = "run"

    def __init__(self, planned: Run, folder: Path, progress: str = "1 of 1") -> None:
        super().__init__()
        self.planned = planned
        self.folder = folder
        self.progress = progress

    def run(self, task_id: int | None = None) -> dict[str, Any]:
        """Train and score. A failure is recorded, so that the other runs go on.

        Args:
            task_id: Number of the worker process, which chooses its GPU; None in the main process.

        Returns:
            The record of the run, as in `run.json`.
        """
        with run_folder(self.planned, self.folder) as (partial, record), _redirect_output(partial / LOG):
            try:
                record |= {
                    "status": DONE,
                    **_train_and_score(self.planned.settings, self.planned.seed, task_id, partial),
                }
            except Exception as error:  # of any kind: it is recorded
                logger.exception("The run failed.")
                record |= {"status": FAILED, "reason": f"{type(error).__name__}: {error}"}
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)  # in a process of its own
        logger.info("%s: %s: %s", self.progress, self.planned, _result_text(record))
        return record

    @staticmethod
    def collect(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records unchanged.

        Args:
            results: Records of the runs.

        Returns:
            The same records.
        """
        return results

    @staticmethod
    def save(results: list[dict[str, Any]]) -> None:
        """Do nothing, as each run has saved itself.

        Args:
            results: Records of the runs.
        """


def partial_folder(run: Run, folder: Path) -> Path:
    """Return the temporary folder of a run.

    Args:
        run: The run.
        folder: Folder of the benchmark.
    """
    target = folder / run.folder
    return target.with_name(f".partial-{target.name}")


@contextmanager
def run_folder(run: Run, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Create a temporary folder and a record, and move them to the run's folder at the end.

    Args:
        run: The run.
        folder: Folder of the benchmark.

    Yields:
        The temporary folder, which has the checkpoint of an interrupted training, and the record to complete.
    """
    target, partial = folder / run.folder, partial_folder(run, folder)
    shutil.rmtree(target, ignore_errors=True)
    open_partial(partial, run.settings)
    record = {"data": run.data, "system": run.system, "split": run.split, "seed": run.seed}
    record |= {"config": run.settings, **code_record()}
    try:
        yield partial, record
    except BaseException:  # an interruption, too
        discard_partial(partial)
        raise
    close_partial(partial)
    write_record(record, partial / "run.json")
    partial.rename(target)


def _result_text(record: dict[str, Any]) -> str:
    if record["status"] == FAILED:
        return f"failed: {record['reason']}"
    return f"trained in {record['train_seconds']:.0f} s, best epoch {record['best_epoch']}"


@contextmanager
def _redirect_output(path: Path) -> Iterator[None]:
    """Redirect the output and log messages of all libraries to a file, as those of parallel runs would interleave."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    former = {library: library.handlers for library in loggers if library.handlers}
    with path.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            for library in loggers[:1] + list(former):
                library.handlers = [logging.StreamHandler(log)]
            yield
        finally:
            for library in loggers[:1] + list(former):
                library.handlers = former.get(library, [])


def _train_and_score(settings: dict[str, Any], seed: int, task_id: int | None, folder: Path) -> dict[str, Any]:
    """Train and score, write the tables and `residuals.png`, and return costs and epochs for the record."""
    torch.set_num_threads(settings["threads"])
    seed_everything(seed, workers=True)
    objects = instantiate(settings)
    model, datamodule = objects.model, objects.data
    datamodule.prepare_data()
    datamodule.setup()
    if settings["exposure"]:
        _write_exposure(datamodule, folder / "exposure.csv")
    recorder, maps = ScoreRecorder(_sources(datamodule)), MapRecorder()
    scoring = [ScoringRecorder([ScoringWay(*way) for way in ways], seed)] if (ways := settings.get("scoring")) else []
    checkpoint = TrainingCheckpoint(folder / CHECKPOINT)
    with TemporaryDirectory(dir=folder) as scratch, PeakMemory() as memory:
        engine = Engine(
            # Without a ModelCheckpoint, anomalib adds its own.
            callbacks=[recorder, maps, *scoring, checkpoint, ModelCheckpoint(save_top_k=0)],
            default_root_dir=scratch,
            enable_progress_bar=False,
            enable_model_summary=False,
            **_trainer_arguments(settings["trainer"], task_id),
        )
        engine.fit(model, datamodule=datamodule, ckpt_path=checkpoint.path if checkpoint.path.exists() else None)
        train_seconds = checkpoint.seconds
        for each in scoring:
            each.table().to_csv(folder / "scoring.csv", index=False)
        tester = _Tester(engine, model, datamodule, recorder, maps)
        scores = list(_score(tester, objects.shifts, folder))
    if tester.maps:
        pd.concat(tester.maps).to_csv(folder / "maps.csv", index=False)
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
    """Measure exposure and negative control of the validation and test images, the same ones in some protocols."""
    scored = pd.concat([datamodule.val_data.samples, datamodule.test_data.samples]).drop_duplicates("image_path")
    white = getattr(datamodule, "sixteen_bit_white", None)
    trained = datamodule.train_data.samples
    exposure, control = (measure(trained, scored, white) for measure in (measure_exposure, measure_control))
    exposure.merge(control, on="image", validate="one_to_one").to_csv(path, index=False)


def _sources(datamodule: Any) -> dict[str, str]:
    """Return the hospital by image path, where the data have it."""
    tables = [subset.samples for subset in (datamodule.val_data, datamodule.test_data)]
    return {
        path: source
        for table in tables
        if "source" in table
        for path, source in zip(table.image_path, table.source, strict=True)
    }


def _trainer_arguments(arguments: dict[str, Any], task_id: int | None) -> dict[str, Any]:
    """Assign a GPU of its own to each of several parallel runs, where they run on GPUs."""
    if task_id is None or not torch.cuda.is_available() or arguments.get("accelerator", "auto") == "cpu":
        return arguments
    return {**arguments, "devices": [task_id % torch.cuda.device_count()]}


class _Tester:
    """Scores the test images with the weights that the model has.

    Args:
        engine: Engine of the training.
        model: The trained model.
        datamodule: Its images.
        recorder: Recorder of the scores.
        recorder_of_maps: Recorder of the maps' figures.
    """

    def __init__(
        self, engine: Engine, model: Any, datamodule: Any, recorder: ScoreRecorder, recorder_of_maps: MapRecorder
    ) -> None:
        self.engine = engine
        self.model = model
        self.datamodule = datamodule
        self.recorder = recorder
        self.recorder_of_maps = recorder_of_maps
        self.maps: list[pd.DataFrame] = []
        """Figures of the maps on the unshifted test images, where they have lesion masks."""

    def test(self, epoch: int | None) -> pd.DataFrame:
        """Score the test images, and measure the maps.

        Args:
            epoch: Epoch of the model's weights.
        """
        self.recorder_of_maps.expect(epoch)
        return self._score(self.datamodule.test_dataloader(), "")

    def keep_maps(self, weights: str) -> None:
        """Keep the figures of the maps of the latest unshifted test.

        Args:
            weights: `best` or `last`.
        """
        figures = self.recorder_of_maps.table()
        if len(figures):
            self.maps.append(figures.assign(weights=weights)[list(MAP_COLUMNS)])

    def test_shifted(self, name: str, transform: Any) -> pd.DataFrame:
        """Score the test images after a transform."""
        loader = self.datamodule.test_dataloader()
        dataset = copy(loader.dataset)
        dataset.augmentations = Compose([part for part in (transform, dataset.augmentations) if part is not None])
        loader = DataLoader(dataset, loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn)
        return self._score(loader, name)

    def _score(self, loader: Any, shift: str) -> pd.DataFrame:
        self.engine.trainer.test(self.model, loader, verbose=False)
        self.recorder.sheet = None  # one sheet, of the unshifted images
        table: pd.DataFrame = self.recorder.tables["test"].assign(subset="test", shift=shift)
        return table


def _score(tester: _Tester, shifts: dict[str, Any], folder: Path) -> Iterator[pd.DataFrame]:
    """Yield the scores of validation and test images with the last weights and with those chosen on validation.

    Shifted test images are scored with the chosen weights only.
    """
    recorder = tester.recorder
    last_epoch = int(recorder.epochs[-1]["epoch"])
    yield recorder.tables["val"].assign(subset="val", weights="last", shift="")
    yield recorder.tables["best_val"].assign(subset="val", weights="best", shift="")
    last_is_best = recorder.best_epoch == last_epoch
    recorder.sheet = folder / "residuals.png" if last_is_best else None
    tested = tester.test(last_epoch)
    tester.keep_maps("last")
    yield tested.assign(weights="last")
    if not last_is_best:
        recorder.restore_best(tester.model)
        recorder.sheet = folder / "residuals.png"
        tested = tester.test(recorder.best_epoch)
    tester.keep_maps("best")
    yield tested.assign(weights="best")
    for shift in shifts.items():
        yield tester.test_shifted(*shift).assign(weights="best")
