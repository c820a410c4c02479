"""A grid from its first run to its report."""

from __future__ import annotations

import json
import os

import pytest
from filelock import FileLock

from anomalib_cxr.benchmark.plan.grid import DataConfig, Grid, SystemConfig
from anomalib_cxr.benchmark.run import pipeline
from anomalib_cxr.benchmark.run.pipeline import Benchmark, BenchmarkError, RunGenerator
from anomalib_cxr.errors import DatasetError, SettingError

from ..runs import GOING_WRONG, MODULE, run_of, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def reported(monkeypatch):
    """Replace the report, which has its own tests, by a list of the folders it is written for."""
    folders = []
    monkeypatch.setattr(pipeline, "write_report", lambda folder: folders.append(folder) or folder / "report.html")
    return folders


@pytest.fixture
def going_wrong(tmp_path, monkeypatch):
    """Models that go wrong, importable here and by processes started from here."""
    (tmp_path / f"{MODULE}.py").write_text(GOING_WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def grid(phantom_root):
    def make(systems, epochs=1, **changes):
        data = settings(phantom_root)["data"]
        systems = {
            name: SystemConfig(model={**settings(phantom_root)["model"], "class_path": class_path})
            for name, class_path in systems.items()
        }
        trainer = settings(phantom_root, epochs=epochs)["trainer"]
        return Grid(systems, {"phantoms": DataConfig(data=data)}, trainer=trainer, **changes)

    return make


OURS = {"ours": "anomalib_cxr.RoiSureGanomaly"}


def record(folder, system, seed=0):
    return json.loads((folder / f"runs/phantoms/{system}/split0-seed{seed}/run.json").read_text())


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/**/*") if path.is_file()}


class TestGoesOn:
    def test_finished_runs_are_kept_and_new_ones_added(self, grid, tmp_path, reported):
        Benchmark(grid(OURS), tmp_path / "b").run()
        before = times(tmp_path / "b")
        Benchmark(grid(OURS, seeds=(0, 1)), tmp_path / "b").run()
        after = times(tmp_path / "b")
        assert before.items() <= after.items()
        assert record(tmp_path / "b", "ours", 1)["status"] == "done"
        assert reported == [tmp_path / "b"] * 2

    def test_a_run_of_other_settings_is_refused_before_anything(self, grid, tmp_path, reported):
        Benchmark(grid(OURS), tmp_path / "b").run()
        before = times(tmp_path / "b")
        with pytest.raises(SettingError, match=r"seed 0: trainer.max_epochs = 1, planned is 2"):
            Benchmark(grid(OURS, epochs=2, seeds=(0, 1)), tmp_path / "b").run()
        assert times(tmp_path / "b") == before
        assert len(reported) == 1

    def test_two_at_once_in_one_folder_are_refused(self, grid, tmp_path):
        (tmp_path / "b").mkdir()
        with FileLock(tmp_path / "b" / ".lock"), pytest.raises(DatasetError, match="another benchmark is running"):
            Benchmark(grid(OURS), tmp_path / "b").run()

    def test_a_folder_that_cannot_be_written(self, grid, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DatasetError, match="cannot be written"):
            Benchmark(grid(OURS), tmp_path / "file" / "b").run()


class TestFailures:
    def test_the_others_go_on_and_it_is_told_at_the_end(self, going_wrong, grid, tmp_path, reported):
        systems = {"raises": f"{MODULE}.Raises", **OURS}
        with pytest.raises(BenchmarkError, match="raises on phantoms, split 0, seed 0: RuntimeError: out of luck"):
            Benchmark(grid(systems), tmp_path / "b").run()
        assert record(tmp_path / "b", "ours")["status"] == "done"
        assert reported == [tmp_path / "b"]

    def test_tried_again_by_the_same_command(self, going_wrong, grid, tmp_path):
        (tmp_path / "b").mkdir()
        with pytest.raises(BenchmarkError):
            Benchmark(grid({"ours": f"{MODULE}.Raises"}), tmp_path / "b").run()
        Benchmark(grid(OURS), tmp_path / "b").run()
        assert record(tmp_path / "b", "ours")["status"] == "done"

    def test_a_process_that_dies_takes_no_other_run_with_it(self, going_wrong, grid, tmp_path):
        systems = {"dies": f"{MODULE}.Dies", **OURS, "later": OURS["ours"]}
        with pytest.raises(
            BenchmarkError,
            match=r"1 runs that failed, of 3:\n    dies on phantoms, split 0, seed 0: its process died \(exit code 1\)",
        ):
            Benchmark(grid(systems), tmp_path / "b", n_jobs=2).run()
        assert record(tmp_path / "b", "dies")["status"] == "failed"
        assert [record(tmp_path / "b", name)["status"] for name in ("ours", "later")] == ["done", "done"]


class TestParallel:
    def test_equals_serial(self, grid, tmp_path):
        for n_jobs in (1, 2):
            Benchmark(grid(OURS, seeds=(0, 1)), tmp_path / str(n_jobs), n_jobs).run()
        for name in ("scores.csv", "epochs.csv"):
            for seed in (0, 1):
                files = [tmp_path / str(n_jobs) / f"runs/phantoms/ours/split0-seed{seed}" / name for n_jobs in (1, 2)]
                assert files[0].read_text() == files[1].read_text()


class TestGenerator:
    def test_a_job_for_each_run(self, phantom_root, tmp_path):
        generator = RunGenerator([run_of(phantom_root, seed=seed) for seed in range(3)], tmp_path)
        assert [(job.planned.seed, job.progress) for job in generator()] == [
            (0, "1 of 3"),
            (1, "2 of 3"),
            (2, "3 of 3"),
        ]

    def test_a_record_that_cannot_be_read_counts_as_none(self, phantom_root, tmp_path):
        run = run_of(phantom_root)
        (tmp_path / run.folder).mkdir(parents=True)
        (tmp_path / run.folder / "run.json").write_text("{half")
        assert RunGenerator([run], tmp_path).planned == [run]
