"""A training that is killed keeps its last checkpoint, and the next start goes on from there."""

from __future__ import annotations

import signal
import time

import pytest
import yaml

ENDLESS = ["--trainer.max_epochs", 1000]


def checkpoints(folder):
    return sorted(path for path in folder.rglob("model*.ckpt") if "latest" not in path.parts)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=lambda each: each.name)
def test_interrupted_in_training(command, interrupted, tmp_path, results, tiny, by):
    words = ["anomalib", *tiny, *ENDLESS]
    code, output = interrupted(tmp_path, *words, seen=lambda: bool(checkpoints(tmp_path)), by=by)
    assert code != 0, output
    first, state = results.folder, results.state()
    epoch = state["epoch"]
    assert all(value.isfinite().all() for name, value in state["state_dict"].items() if name.startswith("model."))
    if by == signal.SIGINT:  # a kill leaves no time to tidy up; the way on is the same
        assert list(results.folder.rglob(".unfinished*")) == []
        return

    onward = ["--ckpt_path", results.checkpoint, "--trainer.max_epochs", epoch + 2]
    code, output = command(tmp_path, "anomalib", *tiny, *onward)
    assert code == 0, output
    assert results.folder != first
    assert results.state()["epoch"] == epoch + 1
    assert list(results.table("losses.csv").epoch) == list(range(epoch + 2))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_benchmark_is_ended_in_the_middle_of_a_fit(interrupted, tmp_path, n_jobs):
    """By SIGTERM, which Lightning alone lets a training survive."""
    phantoms = {"class_path": "anomalib_cxr.ChestPhantom"}
    phantoms["init_args"] = {"root": str(tmp_path / "phantoms"), "n_normal": 20, "n_sick": 10, "size": 32}
    model = {"class_path": "anomalib_cxr.RoiSureGanomaly"}
    model["init_args"] = {"image_size": 32, "network": {"n_features": 4}}
    grid = {
        "systems": {name: {"model": model, "trainer": {"max_epochs": 100_000}} for name in ("one", "two")},
        "data": {"phantoms": {"data": phantoms}},
        "trainer": {"accelerator": "cpu"},
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    folder = tmp_path / "out"
    words = ["anomalib-cxr", "benchmark", "--config", "grid.yaml", "--output", folder, "--n_jobs", n_jobs]
    started = []

    def in_fit():
        if len(list(folder.rglob(".partial-*/tmp*"))) == n_jobs:  # Lightning's own folder, in that of the run
            started.append(time.monotonic())
        return bool(started) and started[-1] - started[0] > 3

    code, output = interrupted(tmp_path, *words, seen=in_fit, by=signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, output
    assert [path for path in folder.rglob("*") if path.is_file() and path.name not in {"benchmark.yaml", ".lock"}] == []
    assert list(folder.rglob(".partial-*")) == []
