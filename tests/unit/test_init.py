"""The package's front door."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from anomalib.models import list_models

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


def test_import_does_not_wait_for_torch():
    code = "import sys, anomalib_cxr; sys.exit('torch' in sys.modules or 'anomalib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603


def test_anomalib_lists_the_model():
    assert anomalib_cxr.RoiSureGanomaly.__name__ in list_models(case="pascal")
    assert "roi_sure_ganomaly" in list_models()
