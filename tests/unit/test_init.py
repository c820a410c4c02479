"""The package's front door."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import anomalib_cxr


@pytest.mark.parametrize("name", anomalib_cxr.__all__)
def test_every_public_name_is_there(name):
    thing = getattr(anomalib_cxr, name)
    assert thing.__name__ == name
    assert thing.__module__.startswith("anomalib_cxr.")
    assert name in dir(anomalib_cxr)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'anomalib_cxr' has no attribute 'Ganomaly'"):
        _ = anomalib_cxr.Ganomaly


def test_version_is_the_installed_one():
    assert anomalib_cxr.__version__ == version("anomalib-cxr")


HEAVY = {
    *("anomalib", "lightning", "matplotlib", "monai", "numpy", "openvino", "pandas", "scipy", "sklearn", "torch"),
    "torchvision",
}
SEGMENT = ("segment", "segment train", "segment predict")
USERS = ("users", "users add", "users list", "users password", "users remove")
BLIND = ("blind", "blind open", "blind close")
AUDIT = ("audit", "audit verify", "audit list")
VERBS = (
    "init",
    "benchmark",
    "calibrate",
    "phantom",
    "plan",
    "screen",
    "selftest",
    "monitor",
    "upgrade",
    *SEGMENT,
    "serve",
    "deidentify",
    *USERS,
    *AUDIT,
    *BLIND,
)
WORDS = [["--version"], *([*verb.split(), "--help"] for verb in ("", *VERBS))]
HELP = "from anomalib_cxr.cli import main\ntry:\n    main({words})\nexcept SystemExit:\n    pass"
SCREEN = "import anomalib_cxr.screening.pipeline.screener"
CALIBRATE = "import anomalib_cxr.screening.calibrate, anomalib_cxr.screening.calibration_table"
SERVE = "import anomalib_cxr.screening.worklist.store, anomalib_cxr.web.server, anomalib_cxr.web.routes.upload"


def imported_by(code):
    """Which of the heavy libraries a fresh Python has imported after some code."""
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"{code}\nimport sys; print()\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return HEAVY & set(told.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("code", ["import anomalib_cxr", *(HELP.format(words=words) for words in WORDS)])
def test_import_and_help_wait_for_nothing(code):
    assert not imported_by(code)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "needed"),
    [(SCREEN, {"matplotlib", "numpy", "openvino", "scipy"}), (SERVE, {"matplotlib", "numpy"})],
)
def test_the_edge_box_imports_what_it_needs(code, needed):
    assert imported_by(code) == needed


@pytest.mark.slow
def test_calibration_by_a_table_waits_for_no_training_library():
    assert not imported_by(CALIBRATE) & {"anomalib", "lightning", "monai", "sklearn", "torch", "torchvision"}
