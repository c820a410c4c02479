"""A benchmark's folder, read back: what was planned, what each run left behind, and what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, MISSING, SCORE_COLUMNS, Run
from anomalib_cxr.errors import CxrError
from anomalib_cxr.evaluation.scores import NORMAL, SICK

CONFIG, RECORD, EPOCHS, SCORES, EXPOSURE = "benchmark.yaml", "run.json", "epochs.csv", "scores.csv", "exposure.csv"
SHEET = "residuals.png"
VAL, TEST = "val", "test"
BEST, LAST = "best", "last"
AS_IS = ""
"""The shift of test images that were left as they are."""


@dataclass(frozen=True)
class Outcome:
    """One run of the grid, as far as it got."""

    run: Run
    status: str
    """:data:`DONE`, :data:`FAILED` or :data:`MISSING`."""
    reason: str
    """Why it is not done; empty where it is."""
    record: Mapping[str, Any]
    """What `run.json` says; empty where there is none."""
    epochs: pd.DataFrame
    """A row for each epoch: `epoch`, `val_auroc` and the losses; empty where the run is not done."""
    scores: pd.DataFrame
    """A row for each image and choice of weights, see :func:`read_results`; empty where the run is not done."""
    exposure: pd.DataFrame
    """See :func:`anomalib_cxr.evaluation.metrics.exposure_adjusted.measure_exposure`; empty where it was not measured."""
    sheet: Path | None
    """Its residual sheet, which may show patients."""

    def part(self, subset: str, weights: str, shift: str = AS_IS) -> pd.DataFrame:
        """Return the scores of one subset, one choice of weights and one noise level."""
        table = self.scores
        chosen: pd.DataFrame = table[
            (table.subset == subset) & (table.weights == weights) & (table["shift"] == shift)
        ].reset_index(drop=True)
        return chosen


@dataclass(frozen=True)
class Results:
    """A benchmark's folder: its configuration, and an outcome for each run of the grid."""

    folder: Path
    config: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def done(self) -> list[Outcome]:
        """The runs that have scores."""
        return [outcome for outcome in self.outcomes if outcome.status == DONE]

    @property
    def not_done(self) -> list[Outcome]:
        """The runs that failed or are missing."""
        return [outcome for outcome in self.outcomes if outcome.status != DONE]

    def of(self, data: str, system: str) -> list[Outcome]:
        """Return the runs with scores of one system on one data set."""
        return [each for each in self.done if (each.run.data, each.run.system) == (data, system)]

    def systems(self, data: str) -> list[str]:
        """Return the systems that have scores on a data set, in the order of the configuration."""
        return [system for system in self.config["systems"] if self.of(data, system)]

    def reported(self, system: str) -> float | None:
        """Return the AUROC that the authors of a system report."""
        value: float | None = (self.config["systems"][system] or {}).get("reported")
        return value

    def shifts(self, data: str) -> list[str]:
        """Return the shifts that test images of some data were scored at, in the order of the configuration.

        :data:`AS_IS` is none of them.
        """
        scored = {shift for each in self.done if each.run.data == data for shift in each.scores["shift"]} - {AS_IS}
        named = [name for name in self._shift_settings(data) if name in scored]
        return named + sorted(scored - set(named))

    def _shift_settings(self, data: str) -> Mapping[str, Any]:
        return (self.config["data"][data] or {}).get("shifts") or {}

    def noise_of_shift(self, data: str, shift: str) -> Noise | None:
        """Return the noise that a shift adds to the test images; None of a shift that does other things."""
        return NO_NOISE if shift == AS_IS else find_noise(self._shift_settings(data).get(shift))

    def noise_of_data(self, data: str) -> Noise:
        """Return the noise that a data set adds to its images, by the settings of its first run."""
        settings = (each.record.get("config") or {} for each in self.done if each.run.data == data)
        return find_noise(next(settings, {}).get("data")) or NO_NOISE

    def differ_in_noise(self, data: Sequence[str]) -> bool:
        """Return whether some data sets differ in the noise that they add to their images."""
        return len({self.noise_of_data(name) for name in data}) > 1


def read_results(folder: Path) -> Results:
    """Read a benchmark's folder, finished or not.

    A run that says it is done and whose files cannot be used counts as failed, with the reason: one damaged run does
    not hide the others.

    Args:
        folder: As `anomalib-cxr benchmark` writes it: `benchmark.yaml`, and for each run
            `runs/<data>/<system>/split<k>-seed<j>/` with `run.json`, `epochs.csv`, `scores.csv` and perhaps
            `exposure.csv` and `residuals.png`.

    Returns:
        The benchmark. The scores of a run have the columns

        - `image`, `source` (hospital, missing where unknown), `label` (`normal` or `sick`).
        - `subset`: `val` or `test`.
        - `weights`: `best` (the epoch chosen on validation) or `last`.
        - `shift`: empty, or the name of the shift, such as added noise, that the test images went through.
        - `score`: finite.

    Raises:
        CxrError: If the folder has no `benchmark.yaml`, or one without the grid.
    """
    config = _read_config(folder / CONFIG)
    grid = product(config["data"], config["systems"], config["splits"], config["seeds"])
    return Results(folder, config, tuple(_read_run(folder, Run(*place, settings={})) for place in grid))


def _read_config(path: Path) -> dict[str, Any]:
    expected = "benchmark.yaml with title, systems, data, splits and seeds, as `anomalib-cxr benchmark` writes it"
    next_step = "name the output folder of a benchmark"
    if not path.is_file():
        raise CxrError(f"no {CONFIG} in {path.parent}", expected, next_step)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    needed = ("title", "systems", "data", "splits", "seeds")
    absent = [name for name in needed if name not in (config if isinstance(config, dict) else {})]
    if absent:
        raise CxrError(f"{path} without {', '.join(absent)}", expected, next_step)
    return dict(config)


def _read_run(benchmark: Path, run: Run) -> Outcome:
    folder = benchmark / run.place
    if not folder.is_dir():
        return _not_done(run, MISSING, "not run yet")
    if not (folder / RECORD).is_file():
        return _not_done(run, MISSING, "begun, not finished")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["status"] != DONE:
            return _not_done(run, FAILED, str(record.get("reason") or "no reason given"), record)
        scores, epochs = _read_scores(folder / SCORES), _read_epochs(folder / EPOCHS)
        exposure = _read_exposure(folder / EXPOSURE)
    except (OSError, KeyError, ValueError) as error:  # JSON and CSV errors are ValueErrors
        return _not_done(run, FAILED, f"its files cannot be used: {type(error).__name__}: {error}")
    sheet = folder / SHEET
    return Outcome(run, DONE, "", record, epochs, scores, exposure, sheet if sheet.is_file() else None)


def _not_done(run: Run, status: str, reason: str, record: Mapping[str, Any] | None = None) -> Outcome:
    scores = pd.DataFrame(columns=list(SCORE_COLUMNS))
    return Outcome(run, status, reason, record or {}, pd.DataFrame(), scores, pd.DataFrame(), None)


def _read_scores(path: Path) -> pd.DataFrame:
    words = {name: str for name in SCORE_COLUMNS if name != "score"}
    table = pd.read_csv(path, dtype=words, keep_default_na=False, na_values={"score": [""], "source": [""]})
    absent = [name for name in SCORE_COLUMNS if name not in table]
    if absent:
        raise ValueError(f"{path.name} has no column {', '.join(absent)}")
    strange = sorted(set(table.label) - {NORMAL, SICK})
    if strange:
        raise ValueError(f"{path.name} has the labels {', '.join(map(repr, strange))}: normal or sick are known")
    broken = int((~np.isfinite(table.score.astype(float))).sum())
    if broken:
        raise ValueError(f"{broken} of {len(table)} scores in {path.name} are not finite")
    return table


def _read_exposure(path: Path) -> pd.DataFrame:
    """Return the exposure of the images; nothing where it was not measured."""
    table: pd.DataFrame = pd.read_csv(path, dtype={"image": str}) if path.is_file() else pd.DataFrame()
    return table


def _read_epochs(path: Path) -> pd.DataFrame:
    """Return what was logged by epoch; nothing of a model that logs nothing."""
    table: pd.DataFrame = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["epoch"])
    if "epoch" not in table:
        raise ValueError(f"{path.name} has no column epoch")
    return table


MID_GRAY = 0.5


class Noise(NamedTuple):
    """Noise of variance `gain * x + sigma ** 2` at the gray value x, on the scale [0, 1] of the image."""

    gain: float
    sigma: float

    @property
    def kind(self) -> str:
        """Gaussian or Poisson-Gaussian."""
        return "Poisson-Gaussian" if self.gain else "Gaussian"

    @property
    def spread(self) -> float:
        """Standard deviation at mid-gray, which puts both kinds on one axis.

        Example:
            >>> round(Noise(gain=0.01, sigma=0.02).spread, 3)
            0.073
        """
        return math.sqrt(self.gain * MID_GRAY + self.sigma**2)


NO_NOISE = Noise(0.0, 0.0)


def find_noise(settings: Any) -> Noise | None:
    """Return the first noise transform within the settings of a shift or of data; None where there is none.

    Example:
        >>> noise = {"class_path": "anomalib_cxr.DetectorNoise", "init_args": {"sigma": 0.1}}
        >>> find_noise({"class_path": "Compose", "init_args": {"transforms": [{"class_path": "Resize"}, noise]}})
        Noise(gain=0.0, sigma=0.1)
        >>> find_noise({"class_path": "Resize"}) is None
        True
    """
    if isinstance(settings, Mapping) and str(settings.get("class_path", "")).endswith("Noise"):
        given = settings.get("init_args") or {}
        return Noise(float(given.get("gain", 0)), float(given.get("sigma", 0)))
    parts = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    return next((found for part in parts if (found := find_noise(part)) is not None), None)
