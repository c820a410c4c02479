"""Output of other libraries: narrow filters, and each log line once."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest
from anomalib.loggers import configure_logger
from jsonargparse import ArgumentParser
from rich.logging import RichHandler

from anomalib_cxr.data.datamodules.base import RoiDataModule
from anomalib_cxr.errors import SettingError
from anomalib_cxr.utils.console import input_message, quiet_libraries


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


def test_errors_of_anomalibs_command(root, capsys, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: told.append(error))
    root.handlers.clear()
    configure_logger()
    quiet_libraries()
    quiet_libraries()
    sys.excepthook(SettingError, SettingError("a", "b", "c"), None)
    assert capsys.readouterr().err == "anomalib: found: a\n  expected: b\n  next step: c\n"
    bug = (KeyError, KeyError("a"), None)
    sys.excepthook(*bug)
    assert told == [bug]


def test_message_within_that_of_the_parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(RoiDataModule, "data")
    parser.add_argument("--other", type=RoiDataModule | None)
    words = ["--other", "RoiDataModule", "--other.root", "nowhere", "--other.seed", "-1"]
    parsed = parser.parse_args([*words, "--data", "RoiDataModule", "--data.root", "nowhere"])
    with pytest.raises(ValueError, match="Does not validate against any") as error:
        parser.instantiate_classes(parsed)
    with pytest.raises(SettingError) as own:
        RoiDataModule("nowhere", seed=-1)
    assert input_message(error.value) == str(own.value)
    assert input_message(ValueError("found: nothing")) is None


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
