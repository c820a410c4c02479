"""Import, check and instantiate the classes that a benchmark's configuration names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any

import anomalib.models
from anomalib.data import AnomalibDataModule
from anomalib.models.components import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from torchvision.transforms.v2 import Transform

import anomalib_cxr

BASES: dict[str, type] = {"model": AnomalibModule, "data": AnomalibDataModule}
"""Base class by section of a configuration."""


@cache
def import_class(class_path: str) -> type | None:
    """Import a class by its path.

    Args:
        class_path: Module and name.

    Returns:
        The class; None if there is no such class.

    Example:
        >>> import_class("anomalib_cxr.RoiSureGanomaly").__name__, import_class("anomalib_cxr.RoiSure")
        ('RoiSureGanomaly', None)
    """
    module, _, name = class_path.rpartition(".")
    try:
        value = getattr(import_module(module), name, None) if module else None
    except ImportError:
        return None
    return value if inspect.isclass(value) else None


@cache
def arguments_of(class_path: str) -> frozenset[str]:
    """Return the names of the arguments of a class, those passed on to its base included.

    Args:
        class_path: Module and name.

    Returns:
        The names, those inside a group of settings with a dot; none for an unknown class.

    Example:
        >>> sorted(arguments_of("anomalib_cxr.ChestPhantom") & {"size", "protocol", "image_size"})
        ['protocol', 'size']
    """
    imported = import_class(class_path)
    if imported is None:
        return frozenset()
    parser = ArgumentParser()
    parser.add_class_arguments(imported, "of", sub_configs=True)
    defaults = parser.get_defaults().of
    return frozenset({*vars(defaults), *defaults.keys()})


def instantiate(settings: Mapping[str, Any]) -> Namespace:
    """Instantiate the model, the data module and the shifts of a run.

    Args:
        settings: `model` and `data`, each with `class_path` and `init_args`; `shifts`, such settings by name.

    Returns:
        A namespace with `model`, `data` and `shifts`.
    """
    parser = _run_parser()
    return parser.instantiate_classes(parser.parse_object(_parts(settings)))


def wrong_values(settings: Mapping[str, Any]) -> str | None:
    """Check the types of the values of a run's settings.

    Args:
        settings: As for :func:`instantiate`.

    Returns:
        Message of the parser; None if all values have the declared types.
    """
    try:
        _run_parser().parse_object(_parts(settings))
    except ArgumentError as error:
        return str(error)
    return None


def _run_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    for section, base in BASES.items():
        parser.add_subclass_arguments(base, section)
    parser.add_argument("--shifts", type=dict[str, Transform])
    return parser


def _parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: deepcopy(settings[name]) for name in (*BASES, "shifts")}  # the parser changes its input


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Return the known names closest to an unknown one, for an error message.

    Args:
        name: The unknown name.
        known: Known names.

    Returns:
        Up to three names, or all if none is close.
    """
    return f"one of {', '.join(get_close_matches(name, list(known), n=3, cutoff=0.4) or sorted(known))}"


def public_classes(base: type) -> list[str]:
    """Return the class paths of this package and of anomalib for a kind of class.

    Args:
        base: A value of :data:`BASES`.

    Returns:
        Module and name of each class.
    """
    packages = [anomalib_cxr, anomalib.models if base is AnomalibModule else import_module("anomalib.data")]
    return [
        f"{package.__name__}.{name}"
        for package in packages
        for name in getattr(package, "__all__", ())
        if inspect.isclass(value := getattr(package, name, None)) and issubclass(value, base)
    ]
