"""The Ray engine gives the rows of the local one, also where a worker dies."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from anomalib_cxr.errors import MissingExtraError
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings, screen


def test_without_ray(calibrated, tmp_path, monkeypatch):
    from anomalib_cxr.screening.pipeline.ray_engine import RayEngine  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'no module ray\n.*\n.*pip install "anomalib-cxr\[ray\]"'):
        RayEngine(ScreenerSettings(calibrated, tmp_path))


@pytest.fixture(scope="module")
def cluster():
    """Two processors of this machine, whatever it has."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
class TestEngine:
    def test_rows_are_those_of_the_local_engine_although_a_worker_dies(
        self, calibrated, calibration, images, tmp_path, monkeypatch
    ):
        from anomalib_cxr.screening.pipeline import ray_engine  # noqa: PLC0415

        marker = tmp_path / "died"

        class Dying(ray_engine._Worker):
            """Ends its process once, in the midst of a batch."""

            def __call__(self, batch):
                found = super().__call__(batch)
                if not marker.exists():
                    marker.touch()
                    os._exit(1)
                return found

        monkeypatch.setattr(ray_engine, "_Worker", Dying)
        monkeypatch.setattr(ray_engine, "BATCH", 5)
        files = [*images[:12], *images[70:], tmp_path / "gone.png"]
        local, by_ray = (ScreenerSettings(calibrated, tmp_path / name) for name in ("local", "ray"))
        expected = screen(files, local, calibration, Screener(local).cases)
        found = screen(files, by_ray, calibration, ray_engine.RayEngine(by_ray, workers=1))
        assert marker.exists()
        assert found.count() == len(files)
        pairs = [[worklist.case(worklist.number_of(file)) for worklist in (found, expected)] for file in files]
        for one, other in pairs:
            assert one.score == pytest.approx(other.score, abs=1e-5)
            same = {"score": 0, "probability": 0, "p_value": 0, "screened": "", "findings": ""}
            assert replace(one, **same) == replace(other, **same)
            assert not one.heatmap or Path(by_ray.output, one.heatmap).is_file()

    def test_nothing_to_screen(self, calibrated, tmp_path):
        from anomalib_cxr.screening.pipeline.ray_engine import RayEngine  # noqa: PLC0415

        assert list(RayEngine(ScreenerSettings(calibrated, tmp_path))([])) == []
