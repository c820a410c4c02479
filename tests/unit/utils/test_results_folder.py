"""Results folders of trainings that were refused before they began."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from anomalib_cxr.utils.results_folder import remove_unused_results


@pytest.fixture
def begin(tmp_path):
    """Make the folder of a training as anomalib does, and return its trainer."""

    def make(version, **state):
        folder = tmp_path / "results" / "LungAtlas" / "own" / version
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("data: null\n")
        latest = folder.with_name("latest")
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder, target_is_directory=True)
        known = {"state": SimpleNamespace(fn="fit"), "global_step": 0, "is_global_zero": True}
        model = SimpleNamespace(name="LungAtlas")
        return SimpleNamespace(default_root_dir=folder, lightning_module=model, **(known | state))

    return make


def test_first_one_leaves_nothing(begin, tmp_path):
    remove_unused_results(begin("v0"))
    assert list((tmp_path / "results").iterdir()) == []


def test_latest_leads_back(begin):
    earlier = begin("v2").default_root_dir
    (earlier / "model.ckpt").touch()
    refused = begin("v10").default_root_dir
    remove_unused_results(begin("v11"))
    assert (refused.with_name("latest")).readlink() == Path("v10")  # the highest number, not the last name
    assert sorted(path.name for path in refused.parent.iterdir()) == ["latest", "v10", "v2"]


@pytest.mark.parametrize(
    "state",
    [{"global_step": 1}, {"is_global_zero": False}, {"state": SimpleNamespace(fn="test")}],
    ids=["a step was taken", "another process", "a test"],
)
def test_others_stay(begin, state):
    trainer = begin("v0", **state)
    remove_unused_results(trainer)
    assert (trainer.default_root_dir / "config.yaml").is_file()


def test_with_a_record_it_stays(begin):
    trainer = begin("v0")
    (trainer.default_root_dir / "report").mkdir()
    remove_unused_results(trainer)
    assert (trainer.default_root_dir / "config.yaml").is_file()
    assert trainer.default_root_dir.with_name("latest").resolve() == trainer.default_root_dir
