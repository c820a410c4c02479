"""Resolve a benchmark's grid to its runs: read files, merge settings, and check all names before the first run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.pytorch import Trainer

from anomalib_cxr.errors import SettingError

from .classes import BASES, arguments_of, import_class, nearest_names, public_classes, wrong_values
from .grid import DataConfig, Grid, Run, Settings, SystemConfig

RESERVED = ("callbacks", "logger", "default_root_dir", "enable_progress_bar", "enable_checkpointing", "barebones")
"""Arguments of the trainer that the benchmark sets itself."""
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def choose_systems(grid: Grid, names: Sequence[str]) -> Grid:
    """Return a grid with some of its systems.

    Args:
        grid: The grid.
        names: Names of the systems; none for all.

    Returns:
        The grid.

    Raises:
        SettingError: If a name is unknown; it lists all of them.

    Example:
        >>> grid = Grid({name: SystemConfig() for name in ("roi_l2", "ganomaly")}, {})
        >>> list(choose_systems(grid, ["ganomaly"]).systems)
        ['ganomaly']
    """
    errors = _ConfigErrors()
    for name in names:
        if name not in grid.systems:
            errors.add(f"--only {name}", nearest_names(name, grid.systems))
    errors.raise_if_any()

    def chosen(by_system: Mapping[str, Any]) -> dict[str, Any]:
        return {name: part for name, part in by_system.items() if name in names or name not in grid.systems}

    if not names:
        return grid
    data = {name: replace(part, systems=chosen(part.systems)) for name, part in grid.data.items()}
    return replace(grid, systems=chosen(grid.systems), data=data)


def resolve_grid(grid: Grid) -> list[Run]:
    """Return the runs of a grid; runs on the same images are adjacent.

    Args:
        grid: The grid.

    Returns:
        One run per data set, split, seed and system.

    Raises:
        SettingError: If a file, a class or an argument is unknown, or a value of the wrong type; names all of them,
            with the nearest known names.
    """
    errors = _ConfigErrors()
    for name in ("systems", "data", "seeds", "splits"):
        if not getattr(grid, name):
            errors.add(f"{name} is empty", "at least one")
    systems = {name: _resolve(system, "model", f"systems.{name}", errors) for name, system in grid.systems.items()}
    data = {name: _resolve(part, "data", f"data.{name}", errors) for name, part in grid.data.items()}
    trainers = {name: _trainer(grid, name, errors) for name in grid.systems}
    for name, part in grid.data.items():
        for system in part.systems:
            if system not in grid.systems:
                errors.add(f"data.{name}.systems.{system}", nearest_names(system, grid.systems))
        class_path = data[name].get("class_path")
        if len(grid.splits) > 1 and class_path and "seed" not in arguments_of(class_path):
            errors.add(f"data.{name}: {len(grid.splits)} splits", f"one, as {class_path} takes no seed")
    errors.raise_if_any()

    def settings(name: str, system: str, split: int, seed: int) -> Settings:
        part = grid.data[name]
        # Images and metrics after each epoch take time, and the benchmark has its own.
        own = merge_settings(part.model, part.systems.get(system, {}))
        model = {**own, "seed": seed, "visualizer": False, "evaluator": False}
        return {
            "model": _override(systems[system], model),
            "data": _override(data[name], {**grid.systems[system].data, "seed": split}),
            "trainer": trainers[system],
            "shifts": part.shifts,
            "exposure": part.exposure,
            "threads": grid.threads,
            **({"scoring": [list(way) for way in grid.ways]} if grid.ways else {}),
        }

    runs = [
        Run(name, system, split, seed, settings(name, system, split, seed))
        for name, split, seed, system in product(grid.data, grid.splits, grid.seeds, grid.systems)
    ]
    for run in {(run.data, run.system): run for run in runs}.values():
        message = wrong_values(run.settings)
        if message is not None:
            errors.add(f"{run.system} on {run.data}: {message}", "values of the types that the classes declare")
    errors.raise_if_any()
    return runs


class _ConfigErrors:
    """Collects everything that is wrong with a grid, to report it at once."""

    def __init__(self) -> None:
        self._expected: dict[str, str] = {}

    def add(self, found: str, expected: str) -> None:
        """Note one error; the same one is kept once."""
        self._expected.setdefault(found, expected)

    def raise_if_any(self) -> None:
        """Raise a `SettingError` if any error was noted."""
        if self._expected:
            raise SettingError(
                "".join(f"\n    {found}" for found in self._expected),
                "".join(f"\n    {expected}" for expected in self._expected.values()),
                "correct the configuration of the benchmark; nothing was run",
            )


def _resolve(part: SystemConfig | DataConfig, section: str, place: str, errors: _ConfigErrors) -> Settings:
    """Return `class_path` and `init_args` of a part, over those of its file, and note their errors."""
    if not _FOLDER_NAME.fullmatch(place):
        errors.add(place, "a name of letters, digits, '_', '-' and '.'")
    own = cast("Settings", part.model if isinstance(part, SystemConfig) else part.data)
    from_file = _read_section(part, section)
    class_path = own.get("class_path", from_file.get("class_path"))
    if class_path is None:
        errors.add(f"{place} without a class", f"config: a file with a section {section!r}, or {section}.class_path")
        return {}
    init_args = merge_settings(from_file.get("init_args", {}), own.get("init_args", {}))
    for key in own:
        if key not in {"class_path", "init_args"}:
            errors.add(f"{place}.{section}.{key}", "class_path or init_args")
    base, imported = BASES[section], import_class(class_path)
    if imported is None:
        errors.add(f"{place}.{section}: class {class_path}", nearest_names(class_path, public_classes(base)))
    elif not issubclass(imported, base):
        errors.add(f"{place}.{section}: class {class_path}", f"a subclass of {base.__name__}")
    else:
        known = arguments_of(class_path)
        for name in (name for name in _dotted(init_args, known) if name not in known):
            errors.add(f"{place}.{section}.init_args.{name}", f"{nearest_names(name, known)} ({class_path})")
    return {"class_path": class_path, "init_args": init_args}


def _read_section(part: SystemConfig | DataConfig, section: str) -> Settings:
    """Return a section of the part's file; empty without a file or such a section."""
    if part.config is None:
        return {}
    content = yaml.safe_load(Path(part.config).read_text(encoding="utf-8"))
    return dict((content or {}).get(section) or {})


def _trainer(grid: Grid, name: str, errors: _ConfigErrors) -> Settings:
    """Return the trainer's arguments: those of the system's file, under the benchmark's, under the system's own."""
    system = grid.systems[name]
    known = set(inspect.signature(Trainer.__init__).parameters) - {"self", *RESERVED}
    for place, arguments in (("trainer", grid.trainer), (f"systems.{name}.trainer", system.trainer)):
        for key in (key for key in arguments if key not in known):
            expected = (
                "an argument that the benchmark does not set itself" if key in RESERVED else nearest_names(key, known)
            )
            errors.add(f"{place}.{key}", expected)
    from_file = {key: value for key, value in _read_section(system, "trainer").items() if key not in RESERVED}
    return {**from_file, **grid.trainer, **system.trainer}


def _override(part: Settings, arguments: Settings) -> Settings:
    """Override arguments of a resolved class, as far as it takes them."""
    known = arguments_of(part["class_path"])
    taken = {name: value for name, value in arguments.items() if name in known}
    return {**part, "init_args": merge_settings(part["init_args"], taken)}


def merge_settings(first: Settings, second: Settings) -> Settings:
    """Merge settings, those of groups one by one; the second wins where both set a value.

    Args:
        first: Settings by name.
        second: Further settings by name.

    Returns:
        The settings of both.

    Example:
        >>> merge_settings({"network": {"n_features": 64, "latent_dim": 100}}, {"network": {"n_features": 16}})
        {'network': {'n_features': 16, 'latent_dim': 100}}
    """
    merged = dict(first)
    for name, value in second.items():
        former = merged.get(name)
        groups = all(isinstance(each, Mapping) and "class_path" not in each for each in (former, value))
        merged[name] = merge_settings(cast("Settings", former), value) if groups else value
    return merged


def _dotted(settings: Settings, known: Iterable[str]) -> Iterator[str]:
    """Yield the names of settings; of a group the dotted names inside it."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and any(each.startswith(f"{name}.") for each in known):
            yield from (f"{name}.{field}" for field in value)
        else:
            yield name


def check_unchanged(settings: Mapping[str, tuple[Settings, Settings]], folder: Path) -> None:
    """Refuse to resume in a folder with finished runs of other settings.

    Args:
        settings: Settings of the finished run and of the planned one, by run.
        folder: Folder of the benchmark.

    Raises:
        SettingError: If some differ; names each run with the differences.
    """
    differences = {name: _differences(*pair) for name, pair in settings.items()}
    lines = [f"\n    {name}: {'; '.join(parts)}" for name, parts in differences.items() if parts]
    if lines:
        raise SettingError(
            f"{folder} with {len(lines)} finished runs of another configuration:{''.join(lines)}",
            "finished runs of the planned settings",
            "choose another --output, restore the former settings, or delete these runs",
        )


def _differences(finished: Any, planned: Any, place: str = "") -> list[str]:
    if isinstance(finished, Mapping) and isinstance(planned, Mapping):
        return [
            difference
            for key in sorted({*finished, *planned})
            for difference in _differences(finished.get(key), planned.get(key), f"{place}.{key}".strip("."))
        ]
    return [] if finished == planned else [f"{place} = {finished!r}, planned is {planned!r}"]
