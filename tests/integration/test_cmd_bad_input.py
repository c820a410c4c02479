"""Bad input by command: the way out is told, and nothing is left half written."""

from __future__ import annotations

import pytest

from anomalib_cxr.errors import DatasetError, SettingError


def assert_no_checkpoint(folder):
    assert list(folder.rglob("*.ckpt")) == []


def test_missing_root(in_process, tmp_path, tiny):
    with pytest.raises(DatasetError, match=r"no folder .*/nowhere") as error:
        in_process(tmp_path, *tiny, "--data.init_args.root", tmp_path / "nowhere")
    assert "MontgomerySet/ with CXR_png/" in error.value.expected
    assert "data.init_args.download" in error.value.next_step
    assert_no_checkpoint(tmp_path)


def damage(root):
    """Break four files in four ways; return them with what is to be said of each."""
    montgomery, shenzhen = root / "MontgomerySet", root / "ChinaSet_AllFiles"
    empty, truncated = sorted((shenzhen / "CXR_png").glob("*_0.png"))[1:3]
    text = min((montgomery / "CXR_png").glob("*_0.png"))
    mask = max((root / "mask").glob("*_mask.png"))
    empty.write_bytes(b"")
    truncated.write_bytes(truncated.read_bytes()[:400])
    text.write_text("no picture")
    mask.write_bytes(b"")
    return [empty, truncated, text, mask]


def test_all_broken_files_at_once(command, tmp_path, tiny, editable, side_by_side_root):
    root = editable(side_by_side_root)
    broken = damage(root)
    code, output = command(tmp_path, "anomalib", *tiny, "--data.init_args.root", root)
    assert code != 0
    for path in broken:
        assert str(path) in output
    assert "4 of 30 X-rays" in output
    assert "on_error to skip" in output
    assert "Epoch 0" not in output
    assert "Traceback" not in output
    assert output.count("on_error to skip") == 1  # each line once
    assert list(tmp_path.rglob("config.yaml")) == []  # no results folder, and nothing that `latest` would lead to
    assert list(tmp_path.rglob("latest")) == []


def test_broken_files_skipped(in_process, tmp_path, results, tiny, editable, side_by_side_root):
    root = editable(side_by_side_root)
    broken = damage(root)
    skip = ["--data.init_args.root", root, "--data.init_args.on_error", "skip", "--trainer.max_epochs", 1]
    in_process(tmp_path, *tiny, *skip)
    tested = set(results.table("scores.csv").image)
    assert not {f"CXR_png/{path.name}" for path in broken} & tested
    assert results.checkpoint.is_file()


def test_setting_out_of_range(command, tmp_path, tiny):
    code, output = command(tmp_path, "anomalib", *tiny, "--model.init_args.sure.sigma", -1)
    assert code != 0
    assert "sure.sigma = -1" in output
    assert "sure.sigma >= 0" in output
    assert "model.init_args" in output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model.init_args.sure.tau", 0, r"sure\.tau > 0"),
        ("model.init_args.weights.reconstruction", -1, r"weights\.reconstruction >= 0"),
        ("model.init_args.network.latent_dim", 0, r"network\.latent_dim >= 1"),
        ("data.init_args.train_batch_size", 0, "train_batch_size >= 1"),
    ],
)
def test_each_setting_names_its_range(in_process, tmp_path, tiny, setting, value, message):
    with pytest.raises(ValueError, match=message):  # the command's parser wraps what a constructor raises
        in_process(tmp_path, *tiny, f"--{setting}", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    [
        "model.init_args.image_size",
        "model.init_args.reconstruction",
        "model.init_args.adversary.scheme",
        "data.init_args.source",
    ],
)
def test_unknown_choice(in_process, tmp_path, tiny, setting, capsys):
    with pytest.raises(SystemExit) as stopped:
        in_process(tmp_path, *tiny, f"--{setting}", "sur")
    assert stopped.value.code != 0
    assert "sur" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_another_architecture(in_process, trained, tmp_path, tiny):
    before = trained.checkpoint.read_bytes()
    other = ["--model.init_args.network.latent_dim", 7, "--ckpt_path", trained.checkpoint, "--trainer.max_epochs", 3]
    with pytest.raises(SettingError, match=r"a checkpoint with network\.latent_dim = 100") as error:
        in_process(tmp_path, *tiny, *other)
    assert error.value.expected.endswith("built with: network.latent_dim = 7")
    assert "report/model.yaml" in error.value.next_step
    assert_no_checkpoint(tmp_path)
    assert trained.checkpoint.read_bytes() == before


def test_predict_names_files_that_are_no_radiographs(in_process, trained, tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    for name in ("one.png", "two.dcm"):
        (folder / name).write_bytes(b"no picture")
    words = ["--data", "anomalib_cxr.RadiographFolder", "--data.init_args.path", folder]
    with pytest.raises(ValueError, match=r"(?s)2 of 2 files.*one\.png.*two\.dcm"):
        in_process(tmp_path, "predict", *trained.model, *words)
    assert not (tmp_path / "results").exists()
