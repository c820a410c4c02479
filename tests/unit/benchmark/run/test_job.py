"""One run of a grid."""

from __future__ import annotations

import json
import logging
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from sklearn.metrics import roc_auc_score

from anomalib_cxr.benchmark.plan.classes import instantiate
from anomalib_cxr.benchmark.run.job import RunJob
from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.evaluation.metrics.exposure_adjusted import measure_exposure
from anomalib_cxr.evaluation.metrics.negative_control import measure_control

from ..runs import GOING_WRONG, MODULE, run_of

pytestmark = pytest.mark.slow

BLUR = {"class_path": "torchvision.transforms.v2.GaussianBlur", "init_args": {"kernel_size": 9, "sigma": [4.0, 4.0]}}


def auroc_of(scores):
    return roc_auc_score(scores.label == "sick", scores.score)


@pytest.fixture(scope="module")
def run(phantom_root):
    return run_of(phantom_root, shifts={"blurred": BLUR}, exposure=True)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    RunJob(run, folder).run()
    return folder / run.folder


@pytest.fixture(scope="module")
def scores(folder):
    return pd.read_csv(folder / "scores.csv", keep_default_na=False)


@pytest.fixture(scope="module")
def epochs(folder):
    return pd.read_csv(folder / "epochs.csv")


class TestDone:
    def test_record(self, folder, run, epochs):
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] == "done"
        assert (record["system"], record["split"], record["seed"]) == ("ours", 0, 0)
        assert record["config"] == json.loads(json.dumps(run.settings))
        assert record["train_seconds"] > record["seconds_per_image"] > 0
        assert record["peak_memory_bytes"] > 100e6  # torch alone is larger
        assert record["best_epoch"] == epochs.epoch[epochs.val_auroc.idxmax()]
        assert record["last_epoch"] == 2
        assert {"torch", "anomalib"} <= record["versions"].keys()

    def test_parameters_are_those_of_the_scoring_networks(self, folder, run):
        expected = sum(weights.numel() for weights in instantiate(run.settings).model.model.parameters())
        assert json.loads((folder / "run.json").read_text())["parameters"] == expected

    def test_every_epoch_with_losses_and_auroc(self, epochs, scores):
        assert list(epochs.epoch) == [0, 1, 2]
        assert epochs[["l_gen", "l_dc", "val_auroc"]].notna().all(axis=None)
        last = scores[(scores.subset == "val") & (scores.weights == "last")]
        assert auroc_of(last) == pytest.approx(epochs.val_auroc.iloc[-1])
        best = scores[(scores.subset == "val") & (scores.weights == "best")]
        assert auroc_of(best) == pytest.approx(epochs.val_auroc.max())

    def test_each_test_image_by_both_weights_and_each_shift(self, scores, phantom_root):
        test = scores[scores.subset == "test"]
        assert set(test.groupby(["weights", "shift"]).groups) == {("last", ""), ("best", ""), ("best", "blurred")}
        for _, rows in test.groupby(["weights", "shift"]):
            assert rows.image.is_unique
            assert set(rows.label) == {"normal", "sick"}
            assert set(rows.source) == {"phantom"}
        assert not set(test.image) & set(scores[scores.subset == "val"].image)

    @pytest.mark.parametrize("weights", ["last", "best"])
    def test_scores_are_those_of_the_model_trained_alone(self, run, epochs, scores, phantom_root, tmp_path, weights):
        """The oracle: as many epochs without the benchmark, and the model called on each image by hand."""
        objects = instantiate(run.settings)
        n_epochs = 1 + int(epochs.epoch.iloc[-1] if weights == "last" else epochs.epoch[epochs.val_auroc.idxmax()])
        engine = Engine(max_epochs=n_epochs, default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False)
        engine.fit(objects.model, datamodule=objects.data)
        model, samples = objects.model.eval(), make_samples(phantom_root)
        rows = scores[(scores.subset == "test") & (scores.weights == weights)]
        assert len(rows)
        for row in rows.itertuples():
            image = RoiDataset(samples[samples.image_path.str.endswith(row.image)])[0].image[None]
            image = objects.shifts[row.shift](image) if row.shift else image
            with torch.no_grad():
                score = model.model(model.pre_processor(image)).pred_score.item()
            assert row.score == pytest.approx(score, rel=1e-3), (row.shift, row.image)

    def test_a_sheet_and_nothing_unfinished(self, folder):
        assert {path.name for path in folder.iterdir()} == {
            "run.json", "epochs.csv", "scores.csv", "exposure.csv", "maps.csv", "residuals.png", "log.txt"
        }  # fmt: skip
        assert [path.name for path in folder.parent.iterdir()] == ["split0-seed0"]

    def test_maps_of_the_last_and_of_the_best_epoch(self, folder, epochs):
        maps = pd.read_csv(folder / "maps.csv").set_index(["weights", "metric"])
        assert set(maps.index) == set(product(["last", "best"], ["pixel_auroc", "pixel_aupro", "pixel_dice"]))
        assert set(maps.epoch["last"]) == {2}
        assert set(maps.epoch["best"]) == {epochs.epoch[epochs.val_auroc.idxmax()]}
        assert maps.value.between(0, 1).all()

    def test_exposure_of_each_image_that_was_scored(self, folder, scores, run, phantom_root):
        exposure = pd.read_csv(folder / "exposure.csv")
        assert sorted(exposure.image) == sorted(scores.image.unique())
        drawn = instantiate(run.settings).data.make_samples()
        trained, scored = drawn[drawn.split == "train"], drawn[drawn.split.isin(["val", "test"])]
        figures = (measure(trained, scored).set_index("image") for measure in (measure_exposure, measure_control))
        expected = pd.concat(figures, axis=1).loc[exposure.image]
        assert np.allclose(exposure.drop(columns="image"), expected)

    def test_the_same_again(self, run, tmp_path, scores):
        RunJob(run, tmp_path).run()
        again = pd.read_csv(tmp_path / run.folder / "scores.csv", keep_default_na=False)
        pd.testing.assert_frame_equal(again, scores)


class TestFailed:
    @pytest.fixture
    def going_wrong(self, tmp_path, monkeypatch):
        (tmp_path / f"{MODULE}.py").write_text(GOING_WRONG)
        monkeypatch.syspath_prepend(tmp_path)

    def test_the_reason_is_written_down(self, going_wrong, phantom_root, tmp_path):
        run = run_of(phantom_root, class_path=f"{MODULE}.Raises")
        record = RunJob(run, tmp_path).run()
        assert record["status"] == "failed"
        assert record["reason"] == "RuntimeError: out of luck"
        assert json.loads((tmp_path / run.folder / "run.json").read_text())["reason"] == record["reason"]
        assert "Traceback" in (tmp_path / run.folder / "log.txt").read_text()
        assert not (tmp_path / run.folder / "scores.csv").exists()

    def test_scores_that_are_no_numbers_fail_by_name(self, going_wrong, phantom_root, tmp_path):
        record = RunJob(run_of(phantom_root, class_path=f"{MODULE}.Blind"), tmp_path).run()
        assert record["status"] == "failed"
        assert "DivergenceError" in record["reason"]
        assert "after epoch 1 that are not finite" in record["reason"]
        assert "PHANTOM_" in record["reason"]

    def test_epochs_before_scores_mean_something_are_not_chosen(self, going_wrong, phantom_root, tmp_path, run, epochs):
        late = run_of(phantom_root, class_path=f"{MODULE}.Late")
        record = RunJob(late, tmp_path).run()
        found = pd.read_csv(tmp_path / late.folder / "epochs.csv")
        assert list(found.val_auroc.isna()) == [True, False, False]
        assert list(found.val_auroc)[1:] == list(epochs.val_auroc)[1:]
        assert record["best_epoch"] == found.epoch[found.val_auroc.idxmax()]

    def test_output_goes_to_the_log_and_comes_back(self, going_wrong, phantom_root, tmp_path, capsys):
        handlers = logging.getLogger().handlers[:]
        RunJob(run_of(phantom_root, class_path=f"{MODULE}.Raises"), tmp_path).run()
        assert logging.getLogger().handlers == handlers
        assert "Traceback" not in capsys.readouterr().out
