"""Settings are accepted and refused as jsonargparse does it with the same annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jsonargparse
import pytest
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveInt

from anomalib_cxr.errors import SettingError
from anomalib_cxr.utils.settings import check_settings


def function(
    count: PositiveInt = 1,
    rate: NonNegativeFloat = 0.0,
    share: ClosedUnitInterval | None = None,
    size: Literal[32, 64] = 32,
    kind: Literal["a", "b"] | None = None,
    name: str | None = None,
) -> None:
    """Take one setting of each kind."""


ACCEPTED = [
    {"count": 7},
    {"rate": 0},
    {"rate": 1e-9},
    {"share": 1.0},
    {"share": None},
    {"size": 64},
    {"kind": "b"},
    {"kind": None},
    {"name": "any"},
]
REFUSED = [
    ({"count": 0}, "count > 0"),
    ({"count": 1.5}, "count > 0"),
    ({"count": True}, "count > 0"),
    ({"rate": -1e-9}, "rate >= 0"),
    ({"rate": float("nan")}, "rate >= 0"),
    ({"rate": [1.0]}, "rate >= 0"),
    ({"share": 1.1}, "share >= 0 and <= 1 or null"),
    ({"size": 48}, "size one of 32, 64"),
    ({"kind": "c"}, "kind one of a, b or null"),
]


@pytest.mark.parametrize("settings", ACCEPTED, ids=str)
def test_accepted(settings):
    check_settings(function, settings, "the options")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(function)
    assert parser.parse_object(settings)[next(iter(settings))] == next(iter(settings.values()))


@pytest.mark.parametrize(("settings", "expected"), REFUSED, ids=str)
def test_refused(settings, expected):
    with pytest.raises(SettingError) as caught:
        check_settings(function, settings, "the options")
    assert caught.value.expected == expected
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(function)
    with pytest.raises(jsonargparse.ArgumentError):
        parser.parse_object(settings)


@pytest.mark.parametrize("settings", [{"count": "1"}, {"count": None}, {"size": 32.0}], ids=str)
def test_values_of_another_type_are_refused(settings):
    with pytest.raises(SettingError):
        check_settings(function, settings, "the options")


def test_all_wrong_settings_at_once():
    with pytest.raises(SettingError, match=r"count = 0, kind = 'c'\n  expected: count > 0, kind one of a, b or null\n"):
        check_settings(function, {"count": 0, "size": 32, "kind": "c", "unknown": 1}, "the options")


def test_a_dataclass():
    @dataclass
    class Settings:
        count: PositiveInt = 1

        def __post_init__(self) -> None:
            check_settings(type(self), vars(self), "the settings")

    assert Settings(2).count == 2
    with pytest.raises(SettingError, match="under the settings"):
        Settings(0)
