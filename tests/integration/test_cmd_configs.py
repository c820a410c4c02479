"""Each file in `configs/` trains, tests and reports, shrunk to seconds."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WHOLE = sorted(CONFIGS.glob("*.yaml"))
PAIRS = list(product(sorted(CONFIGS.glob("data/*.yaml")), sorted(CONFIGS.glob("model/*.yaml"))))
SHRUNK = [
    *("--trainer.max_epochs", 1, "--trainer.accelerator", "cpu", "--data.init_args.num_workers", 0),
    *("--model.init_args.image_size", 32, "--model.init_args.n_features", 4),
]


def names(files):
    return "+".join(file.stem for file in files)


@pytest.fixture
def small_data(tmp_path, side_by_side_root, nih_root):
    """Settings that make the data of a configuration small, by the class of its data module."""
    phantoms = {"root": tmp_path / "phantoms", "n_normal": 20, "n_sick": 10, "size": 32}
    nih = {"root": nih_root, "predicted_masks": nih_root.with_name("lungs"), "n_train": 20, "n_val": 2, "n_test": 4}
    by_class = {
        "anomalib_cxr.ChestPhantom": phantoms,
        "anomalib_cxr.MontgomeryShenzhen": {"root": side_by_side_root},
        "anomalib_cxr.NihChestXray14": nih,
    }

    def words(file):
        settings = by_class[yaml.safe_load(file.read_text())["data"]["class_path"]]
        return [word for name, value in settings.items() for word in (f"--data.init_args.{name}", value)]

    return words


def test_each_file_is_tried():
    tried = {file for files in [WHOLE, *PAIRS] for file in files}
    assert tried == set(CONFIGS.rglob("*.y*ml"))


@pytest.mark.parametrize("files", [*((file,) for file in WHOLE), *PAIRS], ids=names)
def test_trains_and_reports(in_process, tmp_path, results, small_data, files):
    words = [word for file in files for word in ("--config", file)]
    in_process(tmp_path, "train", *words, *SHRUNK, *small_data(files[0]))
    assert len(results.table("losses.csv")) == 1
    assert results.table("scores.csv").score.notna().all()
    assert (results.folder / "report" / "residuals.png").is_file()
    assert results.state()["hyper_parameters"]["image_size"] == 32
