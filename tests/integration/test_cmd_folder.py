"""A hospital's own X-rays by command: from a folder of files to a trained model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomalib_cxr.errors import DatasetError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = {"n_folds": 2, "n_bank": 8, "n_components": 5, "n_textures": 5}


@pytest.fixture
def train():
    """Words of the training, with an atlas of seconds; the packaged segmenter finds the lungs."""
    settings = [word for name, value in SMALL.items() for word in (f"--model.init_args.{name}", value)]
    return [
        *("train", "--config", CONFIGS / "data/folder.yaml", "--config", CONFIGS / "model/lung_atlas.yaml"),
        *settings,
        *("--data.init_args.num_workers", 0, "--trainer.accelerator", "cpu", "--data.init_args.normal_dir", "healthy"),
    ]


def test_png_with_abnormal_ones(in_process, tmp_path, results, train, own_root):
    in_process(tmp_path, *train, "--data.init_args.root", own_root / "png", "--data.init_args.abnormal_dir", "sick")
    scores = results.table("scores.csv")
    assert scores.label.value_counts().to_dict() == {"sick": 31, "normal": 18}
    assert {Path(path).parts[-2] for path in scores.image[scores.label == "sick"]} == {"sick"}
    assert set(scores.source) == {"png"}
    assert (results.folder / "report/roc_curve.png").is_file()


def test_dicom_from_nothing_to_a_worklist(command, tmp_path, results, train, own_root):
    """The four commands of the README, without a mask."""
    folders = ["--data.init_args.root", own_root / "dicom", "--data.init_args.abnormal_dir", "sick"]
    code, output = command(tmp_path, "anomalib", *train, *folders, timeout=900)
    assert code == 0, output
    assert "dicom: train 61 normal; val 9 normal + 9 sick; test 18 normal + 31 sick; unused 0" in output
    root = results.folder
    export = ["--export_type", "openvino", "--export_root", root]
    code, output = command(tmp_path, "anomalib", "export", *results.model, *export, timeout=900)
    assert code == 0, output
    asked = ["--parts", "val,test", "--sensitivity", 0.8, "--confidence", 0.8, "--force"]  # an atlas of seconds
    code, output = command(tmp_path, "anomalib-cxr", "calibrate", "--model", root, *asked, timeout=900)
    assert code == 0, output
    model = ["--model", root / "weights/openvino", "--worklist", "worklist"]
    code, output = command(tmp_path, "anomalib-cxr", "screen", own_root / "dicom/sick", *model, timeout=900)
    assert code == 0, output
    worklist = pd.read_csv(tmp_path / "worklist/worklist.csv")
    assert len(worklist) == 40
    assert worklist.score.notna().mean() > 0.5


def test_dicom_healthy_only(in_process, tmp_path, results, train, own_root, caplog):
    with caplog.at_level("INFO"):
        in_process(tmp_path, *train, "--data.init_args.root", own_root / "dicom")
    assert "No abnormal X-rays are given: the model is trained, and no test is possible." in caplog.text
    assert "dicom: train 79 normal; val 9 normal; test 0; unused 0" in caplog.text
    assert "dicom    PA              79           9" in caplog.text  # the view of the headers
    assert "All X-rays of a known view are PA" in caplog.text
    assert "Not tested: there are no test images." in caplog.text
    assert "anomalib export --config" in caplog.text
    assert results.checkpoint.is_file()
    assert not (results.folder / "report/scores.csv").exists()


def test_too_few(in_process, tmp_path, train, own_root):
    with pytest.raises(DatasetError, match="40 healthy X-rays to train on"):
        in_process(tmp_path, *train, "--data.init_args.root", own_root / "png", "--data.init_args.normal_dir", "sick")
    assert list(tmp_path.rglob("*.ckpt")) == []
