"""Ways of scoring: by the running statistics, and by those of mixed batches or of batches of one class."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import batch_norm

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.benchmark.plan.grid import Grid, ScoringWay, scoring_ways
from anomalib_cxr.benchmark.report.report import write_report
from anomalib_cxr.benchmark.run.job import RunJob
from anomalib_cxr.benchmark.run.scoring import batch_statistics, batches_of

from ..runs import run_of

INFERENCE = ScoringWay("inference", "mixed")
MIXED, BY_CLASS = (ScoringWay("batch_statistics", batches) for batches in ("mixed", "by_class"))


class TestWays:
    def test_inference_is_one_way(self):
        ways = scoring_ways(["inference", "batch_statistics"], ["mixed", "by_class"])
        assert ways == [INFERENCE, MIXED, BY_CLASS]

    def test_none_unless_asked_for(self):
        assert Grid({}, {}).ways == []


class TestBatchStatistics:
    def test_normalizes_by_the_batch_and_leaves_the_network_as_it_was(self):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5)).eval()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        images = 5 + torch.randn(6, 1, 8, 8)
        with batch_statistics(network), torch.no_grad():
            found = network(images)
        expected = batch_norm(network[0](images), None, None, training=True)
        torch.testing.assert_close(found, expected)  # dropout stays in inference
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert not network[1].training
        torch.testing.assert_close(network(images), network[0](images) / (1 + 1e-5) ** 0.5)

    def test_a_score_depends_on_the_other_images(self):
        model = RoiSureGanomaly(image_size=32, network={"n_features": 4, "latent_dim": 5}, seed=0).model.eval()
        images = torch.rand(4, 1, 32, 32) * 2 - 1
        with torch.no_grad():
            alone = model(images).pred_score, model(images[:2]).pred_score
            with batch_statistics(model):
                beside = model(images).pred_score, model(images[:2]).pred_score
        torch.testing.assert_close(alone[0][:2], alone[1])
        assert (beside[0][:2] - beside[1]).abs().min() > 1e-6


class TestBatches:
    IS_SICK = torch.arange(70) >= 35

    @pytest.mark.parametrize("way", [MIXED, BY_CLASS])
    def test_each_image_once(self, way):
        batches = batches_of(self.IS_SICK, way, 32, seed=3)
        assert sorted(torch.cat(batches).tolist()) == list(range(70))

    def test_sizes_are_those_of_a_loader(self):
        assert [len(batch) for batch in batches_of(self.IS_SICK, MIXED, 32, seed=0)] == [32, 32, 6]
        assert [len(batch) for batch in batches_of(self.IS_SICK, BY_CLASS, 32, seed=0)] == [32, 3, 32, 3]

    def test_labels(self):
        assert all(len(set(self.IS_SICK[batch].tolist())) == 1 for batch in batches_of(self.IS_SICK, BY_CLASS, 32, 0))
        assert all(len(set(self.IS_SICK[batch].tolist())) == 2 for batch in batches_of(self.IS_SICK, MIXED, 32, 0))


WAYS = [list(INFERENCE), list(MIXED), list(BY_CLASS)]


@pytest.mark.slow
class TestRun:
    @pytest.fixture(scope="class")
    def folder(self, phantom_root, tmp_path_factory):
        folder = tmp_path_factory.mktemp("scoring")
        run = run_of(phantom_root, scoring=WAYS, epochs=2)
        assert RunJob(run, folder).run()["status"] == "done"
        plain = run_of(phantom_root, system="plain", epochs=2)
        assert RunJob(plain, folder).run()["status"] == "done"
        return folder

    @pytest.fixture(scope="class")
    def table(self, folder):
        return pd.read_csv(folder / "runs/phantoms/ours/split0-seed0/scoring.csv")

    def test_each_epoch_way_and_kind_of_images(self, table):
        assert len(table) == 2 * 3 * 2
        assert set(zip(table.scoring, table.batches, strict=True)) == {tuple(way) for way in WAYS}
        of_control = table[table.images == "control"]
        assert of_control.n_sick.tolist() == table[table.images == "validation"].n_sick.tolist()

    def test_inference_is_what_the_recorder_of_the_run_found(self, folder, table):
        epochs = pd.read_csv(folder / "runs/phantoms/ours/split0-seed0/epochs.csv")
        rows = table[(table.scoring == "inference") & (table.images == "validation")]
        assert rows.value.tolist() == pytest.approx(epochs.val_auroc.tolist())

    def test_the_training_and_its_scores_are_the_same_without(self, folder):
        ours, plain = (
            pd.read_csv(folder / f"runs/phantoms/{name}/split0-seed0/scores.csv") for name in ("ours", "plain")
        )
        pd.testing.assert_frame_equal(ours, plain)
        assert not (folder / "runs/phantoms/plain/split0-seed0/scoring.csv").exists()
        record = json.loads((folder / "runs/phantoms/plain/split0-seed0/run.json").read_text())
        assert "scoring" not in record["config"]

    def test_report(self, folder, table):
        config = {"title": "Ways", "systems": {"ours": {"reported": 0.9}}, "data": {"phantoms": {}}, "splits": [0]}
        (folder / "benchmark.yaml").write_text(json.dumps({**config, "seeds": [0]}))
        text = write_report(folder).with_name("report.md").read_text()
        assert "AUROC by way of scoring" in text
        assert "batch statistics, batches of one class, best epoch" in text
        measured = pd.read_csv(folder / "scoring.csv")
        best = measured[(measured.weights == "best") & (measured.images == "validation")]
        for row in best.itertuples():
            of_way = table[
                (table.scoring == row.scoring) & (table.batches == row.batches) & (table.images == "validation")
            ]
            assert row.value == pytest.approx(of_way.value.max(), abs=1e-5)
            assert f"{of_way.value.max():.3f}" in text


class TestOneClass:
    def test_what_all_images_of_a_batch_share_is_normalized_away(self):
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(1, affine=False)
        values = torch.cat([torch.randn(40, 1), 3 + torch.randn(40, 1)])
        is_sick = torch.arange(80) >= 40
        found = {}
        for way in (MIXED, BY_CLASS):
            scores = torch.empty(80)
            for batch in batches_of(is_sick, way, 40, seed=0):
                with batch_statistics(norm):
                    scores[batch] = norm(values[batch]).flatten()
            found[way] = roc_auc_score(is_sick, scores)
        assert found[MIXED] > 0.9  # the difference is there
        assert found[BY_CLASS] == pytest.approx(0.5, abs=0.1)  # and batches of one class hide it
