"""`anomalib train` as the README has it: what it leaves, the same again by the same seed, and going on."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs" / "roi_sure.yaml"
PICTURES = {"loss_curves.png", "roc_curve.png", "residuals.png"}


def one_batch(root):
    """The command by which a newcomer tries the real set, at a size that a test can bear."""
    return [
        *("train", "--config", CONFIG, "--data.init_args.root", root),
        *("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1),
        *("--model.init_args.image_size", 32, "--model.init_args.network.n_features", 4),
    ]


def git(folder, *words):
    answer = subprocess.run([shutil.which("git"), "-C", folder, *words], capture_output=True, text=True, check=True)  # noqa: S603
    return answer.stdout.strip()


def assert_results(folder):
    assert (folder / "weights" / "lightning" / "model.ckpt").is_file()
    assert {path.name for path in (folder / "report").iterdir()} >= PICTURES | {"losses.csv", "scores.csv", "run.json"}
    for name in PICTURES:
        with Image.open(folder / "report" / name) as picture:
            assert min(picture.size) > 100
            assert len(picture.convert("L").getcolors(256)) > 10  # more than an empty sheet
    scores = pd.read_csv(folder / "report" / "scores.csv")
    pictures = list((folder / "images").rglob("*.png"))
    assert len(pictures) == len(scores) > 0
    assert list(pd.read_csv(folder / "report" / "losses.csv").epoch) == [0]


class TestOneBatch:
    @pytest.fixture(scope="class")
    def run(self, command, tmp_path_factory, side_by_side_root):
        """Started within a checkout, so that its revision can be told."""
        folder = tmp_path_factory.mktemp("checkout")
        git(folder, "init", "-q")
        git(folder, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first", "--allow-empty")
        return folder, command(folder, "anomalib", *one_batch(side_by_side_root))

    @pytest.fixture(scope="class")
    def folder(self, run):
        return run[0] / "results" / "RoiSureGanomaly" / "MontgomeryShenzhen" / "v0"

    def test_leaves_checkpoint_pictures_and_report(self, run, folder):
        assert run[1].code == 0, run[1].output
        assert_results(folder)

    def test_ends_by_telling_where_the_results_lie(self, run, folder):
        last = run[1].output[run[1].output.index("Results of RoiSureGanomaly") :]
        for place in ("report", "images", "weights/lightning/model.ckpt"):
            assert str((folder / place).relative_to(run[0])) in last
        assert "anomalib export --config" in last
        assert "not a medical device" in last

    def test_record_says_where_the_results_come_from(self, run, folder):
        record = json.loads((folder / "report" / "run.json").read_text())
        assert record["seed"] == 0
        assert {"anomalib_cxr", "anomalib", "torch", "lightning"} <= record["versions"].keys()
        assert record["config"]["model"]["init_args"]["image_size"] == 32
        assert record["git"]["revision"] == git(run[0], "rev-parse", "HEAD")

    def test_scores_are_of_both_hospitals(self, folder):
        scores = pd.read_csv(folder / "report" / "scores.csv")
        assert set(scores.source) == {"montgomery", "shenzhen"}
        assert set(scores.label) == {"normal", "sick"}

    @pytest.mark.real_data
    def test_real_images(self, command, tmp_path, real_root):
        code, output = command(tmp_path, "anomalib", *one_batch(real_root), timeout=500)
        assert code == 0, output
        folder = tmp_path / "results" / "RoiSureGanomaly" / "MontgomeryShenzhen" / "v0"
        assert_results(folder)
        assert set(pd.read_csv(folder / "report" / "scores.csv").source) == {"montgomery", "shenzhen"}


class TestSeed:
    def test_same_command_gives_the_same_scores(self, trained, command, tmp_path, results, tiny):
        code, output = command(tmp_path, "anomalib", *tiny, "--trainer.max_epochs", 2)
        assert code == 0, output
        for name in ("scores.csv", "losses.csv"):
            text = (results.folder / "report" / name).read_text()
            assert text == (trained.folder / "report" / name).read_text()

    def test_cached_images_give_the_scores_of_those_read_each_time(self, trained, in_process, tmp_path, results, tiny):
        in_process(tmp_path, *tiny, "--trainer.max_epochs", 2, "--data.init_args.cache", "false")
        assert_frame_equal(results.table("scores.csv"), trained.table("scores.csv"), check_exact=True)

    def test_another_seed_gives_other_scores(self, trained, in_process, tmp_path, results, tiny):
        in_process(tmp_path, *tiny, "--trainer.max_epochs", 2, "--model.init_args.seed", 1)
        ours, theirs = results.table("scores.csv"), trained.table("scores.csv")
        assert set(ours.image) == set(theirs.image)
        assert not set(ours.score) & set(theirs.score)


class TestResume:
    def test_resumed_equals_straight(self, trained, command, tmp_path, results, tiny):
        code, output = command(tmp_path, "anomalib", *tiny, "--trainer.max_epochs", 1)
        assert code == 0, output
        first = results.checkpoint
        code, output = command(tmp_path, "anomalib", *tiny, "--trainer.max_epochs", 2, "--ckpt_path", first)
        assert code == 0, output
        assert results.checkpoint != first
        found, expected = results.state(), trained.state()
        assert found["epoch"] == expected["epoch"] == 1
        assert found["state_dict"].keys() == expected["state_dict"].keys()
        for name, value in expected["state_dict"].items():
            assert torch.equal(found["state_dict"][name].nan_to_num(), value.nan_to_num()), name
        assert_frame_equal(results.table("losses.csv"), trained.table("losses.csv"))
