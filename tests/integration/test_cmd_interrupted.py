"""A training that is killed keeps its last checkpoint, and the next start goes on from there."""

from __future__ import annotations

import signal

import pytest

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
