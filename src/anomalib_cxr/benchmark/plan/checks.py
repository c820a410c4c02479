"""What a grid may name: classes that can be imported, and arguments that they take."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any

import anomalib.models
from anomalib.data import AnomalibDataModule
from anomalib.models.components import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.pytorch import Trainer
from torchvision.transforms.v2 import Transform

import anomalib_cxr
from anomalib_cxr.errors import SettingError

BASES: dict[str, type] = {"model": AnomalibModule, "data": AnomalibDataModule}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@cache
def import_class(class_path: str) -> type | None:
    """Import a class by its path; None where there is no such class.

    Example:
        >>> import_class("anomalib_cxr.RoiSureGanomaly").__name__, import_class("anomalib_cxr.RoiSure")
        ('RoiSureGanomaly', None)
    """
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module), name, None) if module else None
    except ImportError:
        return None
    return found if inspect.isclass(found) else None


@cache
def arguments_of(class_path: str | None) -> frozenset[str]:
    """Return the names that a class takes, those that it hands on to its base included; none of an unknown class.

    Example:
        >>> sorted(arguments_of("anomalib_cxr.ChestPhantom") & {"size", "protocol", "image_size"})
        ['protocol', 'size']
    """
    found = import_class(class_path) if class_path else None
    if found is None:
        return frozenset()
    parser = ArgumentParser()
    parser.add_class_arguments(found, "of", sub_configs=True)
    return frozenset(vars(parser.get_defaults().of))


def _parser_of_run() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    for section, base in BASES.items():
        parser.add_subclass_arguments(base, section)
    parser.add_argument("--shifts", type=dict[str, Transform])
    return parser


def make(settings: Mapping[str, Any]) -> Namespace:
    """Make the model, the data module and the shifts of a run.

    Args:
        settings: `model` and `data`, each with `class_path` and `init_args`; `shifts`, such parts by name.

    Returns:
        A namespace with `model`, `data` and `shifts`.
    """
    parser = _parser_of_run()
    return parser.instantiate_classes(parser.parse_object(_made_of(settings)))


def _made_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: deepcopy(settings[name]) for name in (*BASES, "shifts")}  # the parser changes what it is given


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"one of {', '.join(near)}" if near else f"one of {', '.join(sorted(known))}"


class Refusals:
    """Everything that is wrong with a grid, told at once."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._expected: list[str] = []

    def add(self, found: str, expected: str) -> None:
        """Note one thing that is wrong; twice the same counts once."""
        if found not in self._found:
            self._found.append(found)
            self._expected.append(expected)

    def check_name(self, place: str) -> None:
        """Note a name that cannot be a folder's."""
        if not _NAME.fullmatch(place):
            self.add(place, "a name of letters, digits, '_', '-' and '.'")

    def check_systems(self, named: Iterable[str], systems: Iterable[str], place: str) -> None:
        """Note names of systems that the grid does not have."""
        for name in named:
            if name not in systems:
                self.add(f"{place}.{name}", _nearest(name, systems))

    def check_class(self, path: str, init_args: Mapping[str, Any], section: str, place: str) -> None:
        """Note a class that cannot be imported or is of another kind, and arguments that it does not take."""
        base = BASES[section]
        found = import_class(path)
        if found is None:
            self.add(f"{place}: class {path}", _nearest(path, _public_classes(base)))
        elif not issubclass(found, base):
            self.add(f"{place}: class {path}", f"a subclass of {base.__name__}")
        else:
            known = arguments_of(path)
            for name in init_args:
                if name not in known:
                    self.add(f"{place}.init_args.{name}", f"{_nearest(name, known)} ({path})")

    def check_trainer(self, arguments: Mapping[str, Any], place: str, reserved: Sequence[str]) -> None:
        """Note arguments that Lightning's trainer does not take, or that the benchmark sets."""
        known = set(inspect.signature(Trainer.__init__).parameters) - {"self", *reserved}
        for name in arguments:
            if name not in known:
                why = "one that the benchmark does not set itself" if name in reserved else _nearest(name, known)
                self.add(f"{place}.{name}", why)

    def check_values(self, settings: Mapping[str, Any], run: str) -> None:
        """Note values of the wrong type."""
        try:
            _parser_of_run().parse_object(_made_of(settings))
        except ArgumentError as error:
            self.add(f"{run}: {error}", "values of the types that the classes ask for")

    def raise_if_any(self) -> None:
        """Raise all that is noted.

        Raises:
            SettingError: If there is anything.
        """
        if self._found:
            raise SettingError(
                "".join(f"\n    {each}" for each in self._found),
                "".join(f"\n    {each}" for each in self._expected),
                "correct the configuration of the benchmark; nothing was run",
            )


def _public_classes(base: type) -> list[str]:
    packages = [anomalib_cxr, anomalib.models if base is AnomalibModule else import_module("anomalib.data")]
    return [
        f"{package.__name__}.{name}"
        for package in packages
        for name in getattr(package, "__all__", ())
        if inspect.isclass(each := getattr(package, name, None)) and issubclass(each, base)
    ]
