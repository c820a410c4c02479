"""Monitoring of phantoms that were screened by the real chain: as those of the calibration, and darker."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, Status, monitor_worklist
from anomalib_cxr.screening.pipeline.screener import screen

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Phantoms that neither model nor calibration has seen, at the prevalence of the calibration."""
    root = write_phantoms(tmp_path_factory.mktemp("new") / "set", n_normal=54, n_sick=6, size=64, seed=77)
    return sorted((root / "CXR_png").iterdir())


def screened(screener, files):
    return screen(files, screener.settings, screener.calibration, screener.cases)


def test_phantoms_as_those_of_the_calibration_are_no_drift(screener, new):
    worklist = screened(screener, new)
    assert worklist.reference() == screener.calibration.reference
    result = monitor_worklist(worklist, MonitorSettings())
    assert (result.status, result.n, result.n_unmeasured) == (Status.FINE, 60, 0)


def test_darker_phantoms_are(screener, new, tmp_path):
    files = []
    for path in new:
        gray = np.asarray(Image.open(path)) / 255
        files.append(tmp_path / path.name)
        Image.fromarray(np.rint(255 * gray**1.7).astype(np.uint8)).save(files[-1])
    result = monitor_worklist(screened(screener, files), MonitorSettings())
    assert result.status is Status.DRIFT
    assert "lung_gray" in {each.figure for each in result.drifts}
    (lungs,) = [each for each in result.drifts if (each.by, each.figure) == ("all", "lung_gray")]
    assert lungs.value < 0.8 * lungs.expected
