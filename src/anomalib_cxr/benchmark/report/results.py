"""Read the output folder of a benchmark: its configuration and the result of every planned run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, MAP_COLUMNS, MISSING, SCORE_COLUMNS, Run
from anomalib_cxr.errors import CxrError
from anomalib_cxr.evaluation.scores import NORMAL, SICK

VAL, TEST = "val", "test"
BEST, LAST = "best", "last"
UNSHIFTED = ""
"""Value of `shift` for test images without an added transform."""
MID_GRAY = 0.5
CONFIG_KEYS = ("title", "systems", "data", "splits", "seeds")


class NoiseLevel(NamedTuple):
    """Noise of variance `gain * x + sigma ** 2` at the gray value x, image in [0, 1]."""

    gain: float = 0.0
    sigma: float = 0.0

    @property
    def kind(self) -> str:
        """`Gaussian` or `Poisson-Gaussian`."""
        return "Poisson-Gaussian" if self.gain else "Gaussian"

    @property
    def deviation(self) -> float:
        """Standard deviation at mid-gray, the common scale of both kinds.

        Example:
            >>> round(NoiseLevel(gain=0.01, sigma=0.02).deviation, 3)
            0.073
        """
        return math.sqrt(self.gain * MID_GRAY + self.sigma**2)


def find_noise(settings: Any) -> NoiseLevel | None:
    """Return the level of the first noise transform within nested settings.

    Args:
        settings: Settings of a shift or of a data module, as YAML holds them.

    Returns:
        The level; None without a class path that ends in `Noise`.

    Example:
        >>> noise = {"class_path": "anomalib_cxr.DetectorNoise", "init_args": {"sigma": 0.1}}
        >>> find_noise({"class_path": "Compose", "init_args": {"transforms": [{"class_path": "Resize"}, noise]}})
        NoiseLevel(gain=0.0, sigma=0.1)
        >>> find_noise({"class_path": "Resize"}) is None
        True
    """
    if isinstance(settings, Mapping) and str(settings.get("class_path", "")).endswith("Noise"):
        arguments = settings.get("init_args") or {}
        return NoiseLevel(float(arguments.get("gain", 0)), float(arguments.get("sigma", 0)))
    parts = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    return next((level for part in parts if (level := find_noise(part)) is not None), None)


@dataclass(frozen=True)
class RunResult:
    """Result of one planned run; its tables are empty unless the run is done."""

    run: Run
    status: str
    """`done`, `failed` or `missing`."""
    reason: str = ""
    """Reason why the run is not done."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Content of `run.json`."""
    epochs: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row per epoch: `epoch`, `val_auroc` and the losses."""
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SCORE_COLUMNS)))
    """One row per image and set of weights, see :func:`read_results`."""
    exposure: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Columns of :func:`anomalib_cxr.evaluation.metrics.exposure_adjusted.measure_exposure`; empty if not measured."""
    sheet: Path | None = None
    """Residual sheet, which may show patients."""
    scoring: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Columns of :meth:`anomalib_cxr.benchmark.run.scoring.ScoringRecorder.table`; empty if ways were not compared."""
    maps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(MAP_COLUMNS)))
    """Figures of the anomaly maps; no rows without lesion masks."""

    def select(self, subset: str, weights: str, shift: str = UNSHIFTED) -> pd.DataFrame:
        """Return the scores of one subset, one set of weights and one shift.

        Args:
            subset: `val` or `test`.
            weights: `best` or `last`.
            shift: Name of the shift.

        Returns:
            Rows of `scores`, renumbered.
        """
        table = self.scores
        chosen = (table.subset == subset) & (table.weights == weights) & (table["shift"] == shift)
        selected: pd.DataFrame = table[chosen].reset_index(drop=True)
        return selected


@dataclass(frozen=True)
class Results:
    """Configuration of a benchmark and the result of every run of its grid."""

    folder: Path
    config: Mapping[str, Any]
    runs: tuple[RunResult, ...]

    @property
    def done(self) -> list[RunResult]:
        """Runs with scores."""
        return [result for result in self.runs if result.status == DONE]

    @property
    def not_done(self) -> list[RunResult]:
        """Failed and missing runs."""
        return [result for result in self.runs if result.status != DONE]

    @property
    def data(self) -> list[str]:
        """Names of the data sets with scores, in the order of the configuration."""
        return [name for name in self.config["data"] if self.systems(name)]

    @property
    def noise(self) -> dict[str, NoiseLevel]:
        """Noise that each data set with scores adds to all its images, by the settings of its first run."""
        settings = {name: [run.record.get("config") for run in self.done if run.run.data == name] for name in self.data}
        return {name: find_noise((configs[0] or {}).get("data")) or NoiseLevel() for name, configs in settings.items()}

    @property
    def differ_in_noise(self) -> bool:
        """True if the data sets with scores differ in the noise of all their images."""
        return len(set(self.noise.values())) > 1

    def of(self, data: str, system: str) -> list[RunResult]:
        """Return the done runs of one system on one data set.

        Args:
            data: Name of the data set.
            system: Name of the system.

        Returns:
            One result per split and seed.
        """
        return [result for result in self.done if (result.run.data, result.run.system) == (data, system)]

    def systems(self, *data: str) -> list[str]:
        """Return the systems with scores on any of some data sets, in the order of the configuration.

        Args:
            data: Names of the data sets.

        Returns:
            Names of the systems.
        """
        return [system for system in self.config["systems"] if any(self.of(name, system) for name in data)]

    def shifts(self, data: str) -> dict[str, NoiseLevel | None]:
        """Return the shifts with scores on a data set, in the order of the configuration.

        Args:
            data: Name of the data set.

        Returns:
            Noise that a shift adds to the test images by its name; None for a shift without noise.
        """
        settings = (self.config["data"][data] or {}).get("shifts") or {}
        scored = {shift for run in self.done if run.run.data == data for shift in run.scores["shift"]} - {UNSHIFTED}
        names = [name for name in settings if name in scored] + sorted(scored - set(settings))
        return {name: find_noise(settings.get(name)) for name in names}


def read_results(folder: Path) -> Results:
    """Read the output folder of a benchmark, finished or not.

    A run that is recorded as done but has damaged files counts as failed, with the reason.

    Args:
        folder: Output of `anomalib-cxr benchmark`: `benchmark.yaml`, and for each run
            `runs/<data>/<system>/split<k>-seed<j>/` with `run.json`, `epochs.csv`, `scores.csv` and perhaps
            `exposure.csv`, `scoring.csv`, `maps.csv` and `residuals.png`.

    Returns:
        The results. The scores of a run have the columns

        - `image`, `source` (hospital, missing where unknown), `label` (`normal` or `sick`).
        - `subset`: `val` or `test`.
        - `weights`: `best` (epoch chosen on validation) or `last`.
        - `shift`: name of the transform of the test images, such as added noise; empty without one.
        - `score`: finite.

    Raises:
        CxrError: If the folder has no `benchmark.yaml`, or one without the grid.
    """
    path = folder / "benchmark.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    config = content if isinstance(content, dict) else {}
    absent = [name for name in CONFIG_KEYS if name not in config]
    if absent:
        raise CxrError(
            f"{path} without {', '.join(absent)}" if path.is_file() else f"no {path.name} in {folder}",
            "benchmark.yaml with title, systems, data, splits and seeds, as `anomalib-cxr benchmark` writes it",
            "name the output folder of a benchmark",
        )
    grid = product(config["data"], config["systems"], config["splits"], config["seeds"])
    return Results(folder, config, tuple(_read_run(folder, Run(*key, settings={})) for key in grid))


def _read_run(benchmark: Path, run: Run) -> RunResult:
    folder = benchmark / run.folder
    if not (folder / "run.json").is_file():
        return RunResult(run, MISSING, "started, not finished" if folder.is_dir() else "not run yet")
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if record["status"] != DONE:
            return RunResult(run, FAILED, str(record.get("reason") or "no reason given"), record)
        scores, epochs = _read_scores(folder / "scores.csv"), _read_epochs(folder / "epochs.csv")
        exposure = folder / "exposure.csv"
        measured = pd.read_csv(exposure, dtype={"image": str}) if exposure.is_file() else pd.DataFrame()
        ways = folder / "scoring.csv"
        scoring = pd.read_csv(ways) if ways.is_file() else pd.DataFrame()
        pixels = folder / "maps.csv"
        maps = pd.read_csv(pixels) if pixels.is_file() else pd.DataFrame(columns=list(MAP_COLUMNS))
    except (OSError, KeyError, ValueError) as error:  # JSON and CSV errors are ValueErrors
        return RunResult(run, FAILED, f"its files cannot be used: {type(error).__name__}: {error}")
    sheet = folder / "residuals.png"
    shown = sheet if sheet.is_file() else None
    return RunResult(run, DONE, "", record, epochs, scores, measured, shown, scoring, maps)


def _read_scores(path: Path) -> pd.DataFrame:
    text_columns = {name: str for name in SCORE_COLUMNS if name != "score"}
    table = pd.read_csv(path, dtype=text_columns, keep_default_na=False, na_values={"score": [""], "source": [""]})
    absent = [name for name in SCORE_COLUMNS if name not in table]
    if absent:
        raise ValueError(f"{path.name} has no column {', '.join(absent)}")
    unknown = sorted(set(table.label) - {NORMAL, SICK})
    if unknown:
        raise ValueError(f"{path.name} has the labels {', '.join(map(repr, unknown))}: expected normal or sick")
    not_finite = int((~np.isfinite(table.score.astype(float))).sum())
    if not_finite:
        raise ValueError(f"{not_finite} of {len(table)} scores in {path.name} are not finite")
    return table


def _read_epochs(path: Path) -> pd.DataFrame:
    """Return the values logged by epoch; a table without rows for a model that logs nothing."""
    table: pd.DataFrame = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["epoch"])
    if "epoch" not in table:
        raise ValueError(f"{path.name} has no column epoch")
    return table
