"""Check of settings against the annotations of the function or class that takes them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anomalib_cxr.errors import refuse_settings

_RESTRICTED = "jsonargparse.typing"
_ASCII = str.maketrans({"≥": ">= ", "≤": "<= ", ">": "> ", "<": "< "})


def check_settings(owner: Any, settings: Mapping[str, object], place: str) -> None:
    """Refuse settings that their annotations do not accept, all at once.

    Checked are `Literal` and jsonargparse's restricted numbers such as `PositiveInt`, also in a union; a setting with
    any other annotation passes. jsonargparse itself checks configurations and options, but not a call from Python.

    Args:
        owner: Function or dataclass whose annotations hold.
        settings: Settings by name, such as `locals()` at the beginning of a function.
        place: Place of the settings in a configuration, such as `model.init_args`.

    Raises:
        SettingError: If a setting is not accepted.

    Example:
        >>> from jsonargparse.typing import PositiveInt
        >>> def draw(count: PositiveInt, kind: Literal["a", "b"]) -> None: ...
        >>> check_settings(draw, {"count": 0, "kind": "c"}, "the options")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: count = 0, kind = 'c'
          expected: count > 0, kind one of a, b
          next step: correct it in the configuration under the options
    """
    hints = get_type_hints(owner)
    checked = {name: value for name, value in settings.items() if name in hints}
    wrong = {name: value for name, value in checked.items() if not _accepts(hints[name], value)}
    refuse_settings(wrong, {name: _description(hints[name]) for name in wrong}, place)


def _accepts(annotation: Any, value: object) -> bool:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType}:
        return any(_accepts(part, value) for part in parts)
    if origin is Literal:
        return any(value == choice and isinstance(value, type(choice)) for choice in parts)
    if annotation is NoneType:
        return value is None
    if getattr(annotation, "__module__", "") != _RESTRICTED:
        return True
    try:
        annotation(value)
    except (OverflowError, TypeError, ValueError):
        return False
    return isinstance(value, Real)


def _description(annotation: Any) -> str:
    if get_origin(annotation) in {Union, UnionType}:
        return " or ".join(map(_description, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if annotation is NoneType:
        return "null"
    return str(annotation.__doc__).partition(" to be ")[2].translate(_ASCII)
