"""What a benchmark is asked to run: systems, data, seeds and splits. Light to import: the command's help needs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from jsonargparse.typing import Path_fr

DONE, FAILED, MISSING = "done", "failed", "missing"
"""What has become of a run."""
SCORE_COLUMNS = ("image", "source", "label", "subset", "weights", "shift", "score")
"""Columns of the `scores.csv` of a run."""

Settings = dict[str, Any]
# As a configuration has them: of what is `Any`, jsonargparse would make an object wherever there is a class_path.
Plain = dict[str, bool | int | float | str | list | dict | None]  # type: ignore[type-arg]


@dataclass(frozen=True)
class System:
    """A system of the grid, as a configuration file has it, or such a file with some settings changed.

    Args:
        config: File with `model`, and perhaps `trainer`.
        model: `class_path` and `init_args`, before those of the file.
        trainer: Arguments of the trainer for this system, before all others.
        data: Settings of all data for this system as far as their classes have them, such as `train_batch_size`.
        reported: The AUROC that its authors report, for the table.
        note: A few words for the table.
    """

    config: Path_fr | None = None
    model: Plain = field(default_factory=dict)
    trainer: Plain = field(default_factory=dict)
    data: Plain = field(default_factory=dict)
    reported: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Data:
    """Data of the grid, as a configuration file has them, or such a file with some settings changed.

    Args:
        config: File with `data`.
        data: `class_path` and `init_args`, before those of the file.
        model: Settings of all systems on these data as far as their classes have them, such as the strength of a noise
            that is known here.
        systems: The same for single systems, by name, before `model`.
        shifts: Transforms of the test images by name, each scored too by the weights chosen on validation. For noise at
            the network's resolution, a `Compose` of a resize and :class:`anomalib_cxr.DetectorNoise`.
        exposure: Whether to give AUROC among images of similar exposure too, which needs a true lung mask of each image
            that validates or tests; see :mod:`anomalib_cxr.evaluation.metrics.exposure_adjusted`.
        note: A few words for the table.
    """

    config: Path_fr | None = None
    data: Plain = field(default_factory=dict)
    model: Plain = field(default_factory=dict)
    systems: dict[str, Plain] = field(default_factory=dict)
    shifts: dict[str, Plain] = field(default_factory=dict)
    exposure: bool = False
    note: str = ""

    def placed(self, root: Path | None) -> Data:
        """Return the data in another folder; None leaves them where they are.

        Example:
            >>> Data(data={"init_args": {"root": "here"}}).placed(Path("there")).data
            {'init_args': {'root': 'there'}}
        """
        if root is None:
            return self
        given = cast("Settings", self.data)
        return replace(self, data={**given, "init_args": {**given.get("init_args", {}), "root": str(root)}})


@dataclass(frozen=True)
class Grid:
    """Systems x data x splits x seeds.

    Args:
        systems: The systems by name.
        data: The data by name.
        title: Title of the report.
        seeds: Seeds of the trainings.
        splits: Seeds of the draw that splits the data.
        trainer: Arguments of the trainer for all systems, before those of their files.
        threads: Threads of one run; the same figures need the same number.
    """

    systems: dict[str, System]
    data: dict[str, Data]
    title: str = "Benchmark"
    seeds: tuple[int, ...] = (0,)
    splits: tuple[int, ...] = (0,)
    trainer: Plain = field(default_factory=dict)
    threads: int = 1

    def record(self) -> Settings:
        """Return the grid as plain values, for `benchmark.yaml`.

        Example:
            >>> Grid({"a": System(note="ours")}, {}, seeds=(1,)).record()["seeds"]
            [1]
        """
        return dict(_plain(asdict(self)))


@dataclass(frozen=True)
class Run:
    """One training of the grid and its scores."""

    data: str
    system: str
    split: int
    seed: int
    settings: Settings
    """`model` and `data` (`class_path`, `init_args`), `trainer`, `shifts`, `threads`; `exposure` where it is measured:
    all that the figures need."""

    @property
    def place(self) -> Path:
        """Folder of the run below that of the benchmark."""
        return Path("runs", self.data, self.system, f"split{self.split}-seed{self.seed}")

    def __str__(self) -> str:
        """Return the run's name for messages."""
        return f"{self.system} on {self.data}, split {self.split}, seed {self.seed}"


def _plain(value: Any) -> Any:
    """Return a value as YAML knows it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
