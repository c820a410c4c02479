"""From a grid to its runs: files read, settings merged, and everything that is wrong told before the first run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, cast

import yaml

from anomalib_cxr.errors import SettingError

from .checks import Refusals, arguments_of
from .grid import Data, Grid, Run, Settings, System

RESERVED = ("callbacks", "logger", "default_root_dir", "enable_progress_bar", "enable_checkpointing", "barebones")
"""Arguments of the trainer that the benchmark sets itself."""


def resolve_grid(grid: Grid) -> list[Run]:
    """Return the runs of a grid; those on the same images follow each other.

    Args:
        grid: The grid.

    Raises:
        SettingError: If a file, a class or an argument is unknown, or a value of the wrong type; tells all of them at
            once, with the nearest names.
    """
    refusals = Refusals()
    for name in ("systems", "data", "seeds", "splits"):
        if not getattr(grid, name):
            refusals.add(f"{name} is empty", "at least one")
    systems = {name: _resolve(system, "model", f"systems.{name}", refusals) for name, system in grid.systems.items()}
    data = {name: _resolve(part, "data", f"data.{name}", refusals) for name, part in grid.data.items()}
    resolved = {"model": systems, "data": data}
    for name, part in grid.data.items():
        refusals.check_systems(part.systems, grid.systems, f"data.{name}.systems")
    trainers = {name: _trainer(grid, name, refusals) for name in grid.systems}
    _check_splits(grid, data, refusals)
    refusals.raise_if_any()
    runs = [
        Run(name, system, split, seed, _settings(grid, resolved, trainers, (name, system, split, seed)))
        for name, split, seed, system in product(grid.data, grid.splits, grid.seeds, grid.systems)
    ]
    for run in {(run.data, run.system): run for run in runs}.values():
        refusals.check_values(run.settings, f"{run.system} on {run.data}")
    refusals.raise_if_any()
    return runs


def _resolve(part: System | Data, section: str, place: str, refusals: Refusals) -> Settings:
    """Return `class_path` and `init_args` of a part, its own before its file's; note what is wrong with them."""
    refusals.check_name(place)
    own = cast("Settings", part.model if isinstance(part, System) else part.data)
    from_file = _section(part, section)
    class_path = own.get("class_path", from_file.get("class_path"))
    if class_path is None:
        refusals.add(f"{place} without a class", f"config: a file with a section {section!r}, or {section}.class_path")
        return {}
    init_args = {**from_file.get("init_args", {}), **own.get("init_args", {})}
    for key in own.keys() - {"class_path", "init_args"}:
        refusals.add(f"{place}.{section}.{key}", "class_path or init_args")
    refusals.check_class(class_path, init_args, section, f"{place}.{section}")
    return {"class_path": class_path, "init_args": init_args}


def _section(part: System | Data, section: str) -> Settings:
    """Return a section of the part's file; empty where there is no file or no such section."""
    if part.config is None:
        return {}
    content = yaml.safe_load(Path(part.config).read_text(encoding="utf-8"))
    return dict((content or {}).get(section) or {})


def _trainer(grid: Grid, name: str, refusals: Refusals) -> Settings:
    """Return the trainer's arguments: those of the system's file, under the benchmark's, under the system's own."""
    part = grid.systems[name]
    refusals.check_trainer(grid.trainer, "trainer", RESERVED)
    refusals.check_trainer(part.trainer, f"systems.{name}.trainer", RESERVED)
    from_file = {key: value for key, value in _section(part, "trainer").items() if key not in RESERVED}
    return {**from_file, **grid.trainer, **part.trainer}


def _check_splits(grid: Grid, data: Mapping[str, Settings], refusals: Refusals) -> None:
    """Note several splits of data that take no seed."""
    for name, part in data.items() if len(grid.splits) > 1 else ():
        if part and "seed" not in arguments_of(part["class_path"]):
            refusals.add(f"data.{name}: {len(grid.splits)} splits", f"one, as {part['class_path']} takes no seed")


def _settings(
    grid: Grid,
    resolved: Mapping[str, Mapping[str, Settings]],
    trainers: Mapping[str, Settings],
    key: tuple[str, str, int, int],
) -> Settings:
    data, system, split, seed = key
    here = grid.data[data]
    # Pictures and metrics of each epoch cost time; the benchmark has its own.
    fixed = {"seed": seed, "visualizer": False, "evaluator": False}
    return {
        "model": _with(resolved["model"][system], {**here.model, **here.systems.get(system, {}), **fixed}),
        "data": _with(resolved["data"][data], {**grid.systems[system].data, "seed": split}),
        "trainer": trainers[system],
        "shifts": here.shifts,
        "threads": grid.threads,
        # Left out where it is not asked for, so that runs that finished before there was this setting stay valid.
        **({"exposure": True} if here.exposure else {}),
    }


def _with(part: Settings, more: Settings) -> Settings:
    """Add settings to a resolved class, as far as it takes them."""
    known = arguments_of(part["class_path"])
    taken = {name: value for name, value in more.items() if name in known}
    return {**part, "init_args": {**part["init_args"], **taken}}


def refuse_other_settings(found: Mapping[str, tuple[Settings, Settings]], folder: Path) -> None:
    """Refuse to go on in a folder whose runs were made by other settings.

    Args:
        found: By run, the settings of the finished run and those that are asked for.
        folder: The folder of the benchmark.

    Raises:
        SettingError: If some differ; it names each run with what differs.
    """
    differing = {name: _differences(*pair) for name, pair in found.items()}
    lines = [f"\n    {name}: {'; '.join(words)}" for name, words in differing.items() if words]
    if lines:
        raise SettingError(
            f"{folder} with {len(lines)} finished runs of another configuration:{''.join(lines)}",
            "runs of the settings that are asked for",
            "choose another --output, restore the former settings, or delete these runs",
        )


def _differences(found: Any, asked: Any, place: str = "") -> list[str]:
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        return [
            words
            for key in sorted({*found, *asked})
            for words in _differences(found.get(key), asked.get(key), f"{place}.{key}".strip("."))
        ]
    return [] if found == asked else [f"{place} = {found!r}, asked for is {asked!r}"]
