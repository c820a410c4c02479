"""Errors say what was found, what was expected, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_cxr import errors
from anomalib_cxr.errors import (
    AuditError,
    ChangedCaseError,
    CxrError,
    DatasetError,
    DeidentificationError,
    DivergenceError,
    DownloadError,
    LockedWorklistError,
    MissingExtraError,
    RadiographError,
    ScoreError,
    ScreeningError,
    SegmenterError,
    SettingError,
)

KINDS = (
    SettingError,
    DatasetError,
    DownloadError,
    DivergenceError,
    MissingExtraError,
    ScoreError,
    ScreeningError,
    SegmenterError,
    ChangedCaseError,
    LockedWorklistError,
    AuditError,
    DeidentificationError,
)


@pytest.mark.parametrize("kind", [CxrError, *KINDS])
def test_three_parts(kind):
    error = kind("sigma = -1", "sigma >= 0", "correct it")
    assert str(error) == "found: sigma = -1\n  expected: sigma >= 0\n  next step: correct it"
    assert (error.found, error.expected, error.next_step) == ("sigma = -1", "sigma >= 0", "correct it")


@pytest.mark.parametrize("kind", [*KINDS, RadiographError])
def test_all_are_caught_together_and_as_value_errors(kind):
    assert issubclass(kind, CxrError)
    assert issubclass(kind, ValueError)


def test_every_error_is_tested():
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CxrError)}
    assert defined == {CxrError, RadiographError, *KINDS}


def test_a_radiograph_names_its_file():
    error = RadiographError("films/a.png", "zero bytes", "an image", "fetch it again")
    assert error.path == Path("films/a.png")
    assert error.reason == "zero bytes"
    assert str(error).startswith(f"found: {Path('films/a.png')}: zero bytes\n  expected: an image")


def test_a_dataset_names_all_its_offenders_by_kind():
    offenders = {"zero bytes": ["a.png", Path("b.png")], "mask missing": ["c.png"]}
    error = DatasetError("3 files in films", "readable files", "on_error: skip", offenders)
    assert error.offenders == {"zero bytes": [Path("a.png"), Path("b.png")], "mask missing": [Path("c.png")]}
    assert error.found.splitlines() == [
        "3 files in films",
        "    zero bytes (2):",
        "      a.png",
        "      b.png",
        "    mask missing (1):",
        "      c.png",
    ]
    assert DatasetError("nothing", "images", "look").offenders == {}


def test_a_long_listing_ends_in_how_many_more():
    names = [f"{number}.png" for number in range(103)]
    error = DatasetError("103 files in films", "readable files", "on_error: skip", {"zero bytes": names})
    assert error.offenders == {"zero bytes": [Path(name) for name in names]}
    assert error.found.splitlines()[-2:] == ["      99.png", "      and 3 more"]
    assert len(error.found.splitlines()) == 103
