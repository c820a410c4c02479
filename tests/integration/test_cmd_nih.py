"""NIH ChestX-ray14 by command, on a phantom copy of its layout."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomalib_cxr.errors import DatasetError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def nih(nih_root):
    """A training of seconds on the whole image, since the set has no lung masks."""
    return [
        *("train", "--config", CONFIGS / "data/nih_chest_xray14.yaml", "--config", CONFIGS / "model/ganomaly.yaml"),
        *("--data.init_args.root", nih_root, "--data.init_args.num_workers", 0, "--data.init_args.train_batch_size", 8),
        *("--data.init_args.n_train", 20, "--data.init_args.n_val", 2, "--data.init_args.n_test", 4),
        *("--model.init_args.image_size", 32, "--model.init_args.network.n_features", 4),
        *("--trainer.max_epochs", 1, "--trainer.accelerator", "cpu"),
    ]


def test_train_and_test_by_the_official_lists(command, tmp_path, results, nih_root, nih):
    code, output = command(tmp_path, "anomalib", *nih, "--data.init_args.draw", "official")
    assert code == 0, output
    scores = results.table("scores.csv")
    names = [Path(image).name for image in scores.image]
    assert len(set(names)) == 8
    assert set(names) <= set((nih_root / "test_list.txt").read_text().split())
    (table,) = nih_root.glob("Data_Entry*.csv")
    findings = pd.read_csv(table, index_col="Image Index")["Finding Labels"].loc[names]
    assert list(scores.label == "normal") == list(findings == "No Finding")
    assert set(scores.source) == {"nih"}


def test_more_than_there_are(in_process, tmp_path, nih):
    with pytest.raises(DatasetError, match=r"train has \d+ healthy of 14 patients, asked for are 10,803"):
        in_process(tmp_path, *nih, "--data.init_args.n_train", 10_803)
    assert list(tmp_path.rglob("*.ckpt")) == []
