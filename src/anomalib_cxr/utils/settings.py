"""Ranges of settings, declared in annotations, and the check that refuses values outside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from math import isfinite
from numbers import Integral, Real
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from anomalib_cxr.errors import refuse_settings


@dataclass(frozen=True)
class Range:
    """Values that a setting accepts, as metadata of :data:`typing.Annotated`.

    jsonargparse parses such a setting as the annotated type and leaves the range to :func:`check_settings`, whose
    message is the same for a configuration and for a call from Python. Its own restricted types would turn values into
    classes of its own, which a checkpoint read with `weights_only=True` cannot hold.

    Args:
        expected: The accepted values, in words that can follow the setting's name.
        accepts: Predicate of a value.
    """

    expected: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def at_least(least: int) -> Range:
    """Return the range of whole numbers from a least one.

    Args:
        least: The least number.

    Returns:
        The range; True and False are no numbers.
    """

    def accepts(value: Any) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least

    return Range(f">= {least} and whole", accepts)


def between(least: int, most: int) -> Range:
    """Return the range of whole numbers from a least to a greatest one.

    Args:
        least: The least number.
        most: The greatest number.

    Returns:
        The range.
    """
    return Range(f"from {least} to {most} and whole", lambda value: at_least(least).accepts(value) and value <= most)


def _are_betas(value: Any) -> bool:
    return isinstance(value, Sequence) and [_is_number(beta) and 0 <= beta < 1 for beta in value] == [True, True]


PositiveInt = Annotated[int, at_least(1)]
NonNegativeInt = Annotated[int, at_least(0)]
PositiveFloat = Annotated[float, Range("> 0 and finite", lambda value: _is_number(value) and value > 0)]
NonNegativeFloat = Annotated[float, Range(">= 0 and finite", lambda value: _is_number(value) and value >= 0)]
SixteenBitWhite = Annotated[int, between(255, 65535)]
Betas = Annotated[tuple[float, float], Range("two numbers in [0, 1)", _are_betas)]


def check_settings(
    owner: Any, settings: Mapping[str, Any], place: str, conflicts: Mapping[str, tuple[Any, str]] | None = None
) -> None:
    """Refuse settings that their annotations do not accept, all at once.

    Checked are :class:`Range` and `Literal`, also in a union with None, and the fields of a dataclass, which is a group
    of settings; a setting with any other annotation passes.

    Args:
        owner: Function or dataclass whose annotations hold.
        settings: Settings by name, such as `locals()` at the beginning of a function.
        place: Place of the settings in a configuration, such as `model.init_args`.
        conflicts: Settings that do not go together with others: value and expectation by dotted name.

    Raises:
        SettingError: If a setting is not accepted.

    Example:
        >>> def draw(count: PositiveInt, kind: Literal["a", "b"]) -> None: ...
        >>> check_settings(draw, {"count": 0, "kind": "c"}, "the options")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: count = 0, kind = 'c'
          expected: count >= 1 and whole, kind one of a, b
          next step: correct it in the configuration under the options
    """
    refused = {**(conflicts or {}), **dict(_refused(owner, settings))}
    wrong = {name: value for name, (value, _) in refused.items()}
    refuse_settings(wrong, {name: expected for name, (_, expected) in refused.items()}, place)


def _refused(owner: Any, settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    """Yield dotted name, value and expectation of each setting that is not accepted."""
    # In the order of the annotations: that of `locals()` is another one in Python 3.10.
    for name, annotation in get_type_hints(owner, include_extras=True).items():
        if name not in settings:
            continue
        value = settings[name]
        if is_dataclass(annotation) and is_dataclass(value):
            yield from _refused(annotation, vars(value), f"{prefix}{name}.")
        elif (expected := _expected(annotation, value)) is not None:
            yield f"{prefix}{name}", (value, expected)


def _expected(annotation: Any, value: object) -> str | None:
    """Return the accepted values of an annotation that does not accept a value; None where it does."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        accepted = any(value == choice and type(value) is type(choice) for choice in parts)
        return None if accepted else f"one of {', '.join(map(str, parts))}"
    for each in getattr(annotation, "__metadata__", ()):
        if isinstance(each, Range) and not each.accepts(value):
            return each.expected
    if NoneType in parts and len(parts) == 2 and value is not None:  # noqa: PLR2004  # an optional setting
        expected = _expected(next(part for part in parts if part is not NoneType), value)
        return None if expected is None else f"{expected}, or null"
    return None
