"""Output of other libraries: narrow filters, and each log line once."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest
from anomalib.loggers import configure_logger
from rich.logging import RichHandler

from anomalib_cxr.utils.console import quiet_libraries


@pytest.fixture
def root(monkeypatch):
    """The root logger without the handlers of this test run."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    return root


def warned(message, module):
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        quiet_libraries()
        warnings.warn_explicit(message, FutureWarning, "file.py", 1, module=module)
    return len(caught)


def test_one_line_for_a_record_of_anomalibs_command(root, capsys):
    root.handlers.clear()  # of pytest, which adds its own before each test
    configure_logger()
    assert len(root.handlers) == 2
    quiet_libraries()
    logging.getLogger("anomalib_cxr").info("a line")
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("a line") == 1


def test_handlers_of_a_user_stay(root):
    own = [logging.StreamHandler(), RichHandler()]
    root.handlers[:] = own  # without pytest's, to which a test that ran before may have given anomalib's format
    quiet_libraries()
    assert root.handlers == own


@pytest.mark.parametrize(
    ("message", "module", "shown"),
    [
        ("Importing from timm.models.layers is deprecated, please", "timm.models.layers", 0),
        ("Importing from timm.models.layers is deprecated, please", "mine", 1),
        ("Importing from timm.models.other is deprecated", "timm.models.layers", 1),
        ("`isinstance(treespec, LeafSpec)` is deprecated, use", "lightning.pytorch.utilities._pytree", 0),
    ],
)
def test_filters_are_narrow(message, module, shown):
    assert warned(message, module) == shown


@pytest.mark.slow
def test_models_are_imported_without_a_warning():
    words = [sys.executable, "-c", "import anomalib_cxr; anomalib_cxr.RoiSureGanomaly, anomalib_cxr.LungAtlas"]
    finished = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603
    assert finished.stdout + finished.stderr == ""
