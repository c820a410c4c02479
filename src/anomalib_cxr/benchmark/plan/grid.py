"""Configuration of a benchmark: systems, data sets, seeds and splits. Light to import, for the command's help."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from jsonargparse.typing import Path_fr

DONE, FAILED, MISSING = "done", "failed", "missing"
"""Status of a run."""
SCORE_COLUMNS = ("image", "source", "label", "subset", "weights", "shift", "score")
"""Columns of the `scores.csv` of a run."""
MAP_COLUMNS = ("weights", "epoch", "metric", "value")
"""Columns of the `maps.csv` of a run on images with lesion masks."""
PIXEL_AUROC, PIXEL_AUPRO, PIXEL_DICE = "pixel_auroc", "pixel_aupro", "pixel_dice"

INFERENCE, BATCH_STATISTICS = "inference", "batch_statistics"
MIXED, BY_CLASS = "mixed", "by_class"
VALIDATION, CONTROL = "validation", "control"
"""Images by which ways of scoring are compared: the validation set; or healthy training images, half called sick."""
Scoring = Literal["inference", "batch_statistics"]
Batches = Literal["mixed", "by_class"]

Settings = dict[str, Any]
# Not `Any`: jsonargparse would instantiate an object wherever such a value has a class_path.
YamlDict = dict[str, bool | int | float | str | list | dict | None]  # type: ignore[type-arg]


class ScoringWay(NamedTuple):
    """Way of scoring validation images, beside that of a model in use."""

    scoring: str
    """`inference`, or `batch_statistics`: batch normalization by the statistics of each batch."""
    batches: str
    """`mixed`, or `by_class`: batches of normal or of sick images only."""

    def __str__(self) -> str:
        """Return the name of the way for tables."""
        if self.scoring == INFERENCE:
            return "inference"
        return f"batch statistics, {'mixed batches' if self.batches == MIXED else 'batches of one class'}"


def scoring_ways(scoring: Iterable[str], batches: Iterable[str]) -> list[ScoringWay]:
    """Return the ways of scoring that a grid asks for.

    Args:
        scoring: Statistics of the batch normalization.
        batches: Compositions of the batches; in inference they make no difference, so that it is one way.

    Returns:
        The ways.

    Example:
        >>> [str(way) for way in scoring_ways(["inference", "batch_statistics"], ["mixed", "by_class"])]
        ['inference', 'batch statistics, mixed batches', 'batch statistics, batches of one class']
    """
    ways = (ScoringWay(kind, MIXED if kind == INFERENCE else content) for kind, content in product(scoring, batches))
    return list(dict.fromkeys(ways))


@dataclass(frozen=True)
class SystemConfig:
    """System of the grid: a model and its training.

    Args:
        config: Configuration file with `model`, and perhaps `trainer`.
        model: `class_path` and `init_args`, which override those of the file.
        trainer: Arguments of the trainer for this system, which override all others.
        data: Arguments of the data modules for this system, such as `train_batch_size`, where their class has them.
        reported: AUROC that its authors report, for the table.
        note: Short remark for the table.
    """

    config: Path_fr | None = None
    model: YamlDict = field(default_factory=dict)
    trainer: YamlDict = field(default_factory=dict)
    data: YamlDict = field(default_factory=dict)
    reported: float | None = None
    note: str = ""


@dataclass(frozen=True)
class DataConfig:
    """Data set of the grid.

    Args:
        config: Configuration file with `data`.
        data: `class_path` and `init_args`, which override those of the file.
        model: Arguments of the models on this data set, such as a known noise level, where their class has them.
        systems: The same for single systems, by name; overrides `model`.
        shifts: Transforms of the test images by name. The weights chosen on validation are also scored on each of them.
            For noise at the network's resolution, a `Compose` of a resize and :class:`anomalib_cxr.DetectorNoise`.
        exposure: Whether to add the AUROC among images of similar exposure, which needs a true lung mask of each
            validation and test image; see :mod:`anomalib_cxr.evaluation.metrics.exposure_adjusted`.
        note: Short remark for the table.
    """

    config: Path_fr | None = None
    data: YamlDict = field(default_factory=dict)
    model: YamlDict = field(default_factory=dict)
    systems: dict[str, YamlDict] = field(default_factory=dict)
    shifts: dict[str, YamlDict] = field(default_factory=dict)
    exposure: bool = False
    note: str = ""


def with_root(settings: YamlDict, root: Path | None) -> YamlDict:
    """Return the settings of a data module with another root folder.

    Args:
        settings: `class_path` and `init_args` of the data module.
        root: Folder with the data; None changes nothing.

    Returns:
        The settings.

    Example:
        >>> with_root({"init_args": {"root": "here"}}, Path("there"))
        {'init_args': {'root': 'there'}}
    """
    arguments = cast("Settings", settings.get("init_args") or {})
    return settings if root is None else {**settings, "init_args": {**arguments, "root": str(root)}}


@dataclass(frozen=True)
class Grid:
    """Benchmark: systems x data sets x splits x seeds.

    Args:
        systems: Systems by name.
        data: Data sets by name.
        title: Title of the report.
        seeds: Seeds of the trainings.
        splits: Seeds of the draw that splits the data.
        trainer: Arguments of the trainer for all systems, which override those of their files.
        threads: CPU threads of one run. Exact repetition of results needs the same number.
        scoring: Ways of scoring that are compared on the validation images after each epoch, and on healthy images as a
            control, see :mod:`anomalib_cxr.benchmark.run.scoring`: `inference` and `batch_statistics`, the latter as
            GANomaly's public code does. A study of figures that were published: models in use, and all other figures
            of the benchmark, score by inference. None compares nothing.
        batches: Batches for `batch_statistics`: `mixed`, or `by_class`, of normal or of sick images only.
    """

    systems: dict[str, SystemConfig]
    data: dict[str, DataConfig]
    title: str = "Benchmark"
    seeds: tuple[int, ...] = (0,)
    splits: tuple[int, ...] = (0,)
    trainer: YamlDict = field(default_factory=dict)
    threads: int = 1
    scoring: tuple[Scoring, ...] = ()
    batches: tuple[Batches, ...] = ("mixed", "by_class")

    @property
    def ways(self) -> list[ScoringWay]:
        """Ways of scoring that are compared."""
        return scoring_ways(self.scoring, self.batches)

    def to_yaml(self) -> Settings:
        """Return the grid as values that YAML knows, for `benchmark.yaml`.

        Returns:
            Nested dictionaries and lists.

        Example:
            >>> Grid({"a": SystemConfig(note="ours")}, {}, seeds=(1,)).to_yaml()["seeds"]
            [1]
        """
        return dict(_to_yaml(asdict(self)))


@dataclass(frozen=True)
class Run:
    """One training of the grid and its scores."""

    data: str
    system: str
    split: int
    seed: int
    settings: Settings
    """All that the results depend on: `model` and `data` (`class_path`, `init_args`), `trainer`, `shifts`, `exposure`
    and `threads`; where ways of scoring are compared, `scoring`."""

    @property
    def folder(self) -> Path:
        """Folder of the run, relative to that of the benchmark."""
        return Path("runs", self.data, self.system, f"split{self.split}-seed{self.seed}")

    def __str__(self) -> str:
        """Return the name of the run for messages."""
        return f"{self.system} on {self.data}, split {self.split}, seed {self.seed}"


def _to_yaml(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_yaml(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_to_yaml(part) for part in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
