"""Settings are accepted and refused by their annotations, and parsed by jsonargparse into plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import jsonargparse
import numpy as np
import pytest

from anomalib_cxr.errors import SettingError
from anomalib_cxr.utils.settings import (
    Betas,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    at_least,
    check_settings,
)


@dataclass
class Group:
    kappa: NonNegativeFloat = 0.0
    folds: Annotated[int, at_least(2)] = 2


def function(
    count: PositiveInt = 1,
    workers: NonNegativeInt = 0,
    cap: PositiveInt | None = None,
    lr: PositiveFloat = 1.0,
    betas: Betas = (0.5, 0.9),
    size: Literal[32, 64] = 32,
    kind: Literal["l1", "l2"] | None = "l1",
    group: Group = Group(),  # noqa: B008
    name: str | None = None,
) -> None:
    """Take one setting of each kind."""


CASES = [
    ("count", [1, np.int64(3)], [0, -1, 1.0, "1", True, None], ">= 1 and whole"),
    ("workers", [0, 7], [-1, 0.5, False], ">= 0 and whole"),
    ("cap", [1, None], [0, 1.5], ">= 1 and whole, or null"),
    ("lr", [1, 1e-9, np.float32(0.5)], [0, -1e-9, float("inf"), float("nan"), "1", True, None], "> 0 and finite"),
    (
        "betas",
        [(0, 0.9), [0.5, 0.999]],
        [(0.5,), (0.5, 1.0), (-0.1, 0.5), (0.5, None), 0.5, "ab"],
        "two numbers in [0, 1)",
    ),
    ("size", [32, 64], [16, 32.0, "32", [32], None], "one of 32, 64"),
    ("kind", ["l1", None], ["L1", "", 1, ["l1"]], "one of l1, l2, or null"),
    ("name", [None, 0, "anything"], [], ""),
]


@pytest.mark.parametrize(("name", "good", "bad", "expected"), CASES)
def test_ranges(name, good, bad, expected):
    for value in good:
        check_settings(function, {name: value}, "the options")
    for value in bad:
        with pytest.raises(SettingError) as caught:
            check_settings(function, {name: value}, "the options")
        assert caught.value.expected == f"{name} {expected}"
        assert caught.value.next_step.endswith("under the options")


@pytest.mark.parametrize("group", [Group(-1e-9), Group(float("inf")), Group(False), Group(folds=1)])
def test_fields_of_a_group(group):
    check_settings(function, {"group": Group(0.5, 3)}, "the options")
    with pytest.raises(SettingError, match=r"found: group\.(kappa|folds) = "):
        check_settings(function, {"group": group}, "the options")


def test_all_wrong_settings_at_once_with_their_groups_and_conflicts():
    expected = (
        r"seed = -1, lr = 0, size = 5, group.folds = 1\n  expected: seed none, lr > 0 and finite, size one of 32, 64, "
        r"group.folds >= 2 and whole\n"
    )
    values = {"lr": 0, "size": 5, "group": Group(1, 1), "other": -1, "count": 2}
    with pytest.raises(SettingError, match=expected):
        check_settings(function, values, "the options", {"seed": (-1, "none")})


def test_a_dataclass():
    @dataclass
    class Settings:
        count: PositiveInt = 1

        def __post_init__(self) -> None:
            check_settings(type(self), vars(self), "the settings")

    assert Settings(2).count == 2
    with pytest.raises(SettingError, match="under the settings"):
        Settings(0)


def test_the_command_line_gives_plain_values():
    """A checkpoint that is read with `weights_only=True` holds no others."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(function)
    parsed = parser.parse_args(["--count=3", "--lr=0.5", "--betas=[0,0.9]", "--group.kappa=2", "--group.folds=1"])
    values = (parsed.count, parsed.lr, *parsed.betas, parsed.group.kappa, parsed.group.folds)
    assert values == (3, 0.5, 0, 0.9, 2, 1)
    assert {type(value) for value in values} == {int, float}
