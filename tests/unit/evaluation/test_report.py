"""The callback in real trainings and tests on tiny phantoms."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from anomalib.models import Padim
from lightning.pytorch import Callback, Trainer
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader

from anomalib_cxr import ChestPhantom, RoiSureGanomaly, TrainingReport
from anomalib_cxr.evaluation import canvas as files
from anomalib_cxr.evaluation import report
from anomalib_cxr.evaluation.scores import ImageScore

pytestmark = pytest.mark.slow

LOGGER = "anomalib_cxr.evaluation.report"
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
AFTER_TEST = {"scores.csv", "roc_curve.png", "score_histogram.png", "residuals.png"}
AFTER_FIT = {"run.json", "losses.csv", "loss_curves.png"}


class Witness(Callback):
    """Sees the same training and test independently, through what Lightning itself offers."""

    def __init__(self):
        self.epochs, self.batches = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append({name: value.item() for name, value in trainer.callback_metrics.items()})

    def on_test_batch_end(self, trainer, pl_module, outputs, *args, **kwargs):
        self.batches.append(outputs)  # the post-processor will change it in place


class Trained(NamedTuple):
    engine: Engine
    model: RoiSureGanomaly
    witness: Witness
    figures: dict[str, Figure]
    messages: list[str]


class NormalOnly(ChestPhantom):
    def _setup(self, _stage=None):
        super()._setup(_stage)
        self.test_data.samples = self.test_data.samples[self.test_data.samples.label_index == 0]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "phantoms"


def phantoms(root, kind=ChestPhantom):
    return kind(root=root, n_normal=24, n_sick=12, size=32, train_batch_size=8, eval_batch_size=5)


def tiny_model():
    return RoiSureGanomaly(image_size=32, network={"n_features": 4, "latent_dim": 5}, visualizer=False)


def run(root, folder, *, model=None, kind=ChestPhantom, verb="train", ckpt_path=None, **settings):
    witness = Witness()
    engine = Engine(callbacks=[TrainingReport(), witness], default_root_dir=folder, logger=False, **QUIET, **settings)
    model = model or tiny_model()
    getattr(engine, verb)(model, datamodule=phantoms(root, kind), ckpt_path=ckpt_path)
    return engine, model, witness


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """A training of two epochs and its test, with the figures that it saved and the messages that it gave."""
    figures, messages = {}, []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: messages.append(record.getMessage())

    def save_figure(figure, path):
        figures[path.name] = figure
        files.save_figure(figure, path)

    folder = tmp_path_factory.mktemp("results") / "my results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "save_figure", save_figure)
        level = report.logger.level
        report.logger.setLevel(logging.INFO)  # clears the logger's memory of disabled levels, too
        report.logger.addHandler(handler)
        torch.manual_seed(0)
        engine, model, witness = run(root, folder, max_epochs=2)
        report.logger.removeHandler(handler)
        report.logger.setLevel(level)
    return Trained(engine, model, witness, figures, messages)


def report_of(engine):
    return Path(engine.trainer.default_root_dir) / "report"


def names(engine):
    return {path.name for path in report_of(engine).iterdir()} if report_of(engine).is_dir() else set()


def read(engine, name):
    return pd.read_csv(report_of(engine) / name)


class TestTraining:
    def test_files(self, trained):
        assert names(trained.engine) == AFTER_FIT | AFTER_TEST

    def test_losses_are_what_lightning_logged(self, trained):
        engine, witness = trained.engine, trained.witness
        losses = read(engine, "losses.csv")
        assert list(losses.epoch) == [0, 1]
        terms = {"l_adv", "l_enc", "l_rec", "l_gen", "l_dc", "divergence", "val_image_AUROC"}
        terms |= {"share_adv", "share_enc", "share_rec"}
        assert set(losses.columns) == {"epoch"} | terms
        for row, logged in zip(losses.to_dict("records"), witness.epochs, strict=True):
            assert {name: row[name] for name in terms} == pytest.approx({name: logged[name] for name in terms})

    @pytest.mark.parametrize("name", ["loss_curves.png", "roc_curve.png", "score_histogram.png", "residuals.png"])
    def test_figures_open(self, trained, name):
        with Image.open(report_of(trained.engine) / name) as picture:
            picture.load()
            assert min(picture.size) > 300
            assert max(picture.size) < 2500

    def test_raw_scores_are_the_models(self, trained):
        engine, model = trained.engine, trained.model
        model.eval()  # Lightning has put it back into training mode
        data = phantoms(trained.engine.trainer.datamodule.root)
        data.setup()
        loader = DataLoader(data.test_data, batch_size=4, collate_fn=data.test_data.collate_fn)
        with torch.no_grad():
            scores = [
                model.model(model.pre_processor.transform(batch.image)).pred_score for batch in loader
            ]  # fmt: skip
        assert read(engine, "scores.csv").score.tolist() == pytest.approx(torch.cat(scores).tolist(), rel=1e-4)

    def test_probabilities_and_labels_are_the_post_processors(self, trained):
        engine, witness = trained.engine, trained.witness
        table = read(engine, "scores.csv")
        probabilities = torch.cat([batch.pred_score for batch in witness.batches])
        called = torch.cat([batch.pred_label for batch in witness.batches])
        assert table.probability.tolist() == pytest.approx(probabilities.tolist(), abs=1e-6)
        assert (table.predicted == "sick").tolist() == called.tolist()
        assert table.score.tolist() != pytest.approx(probabilities.tolist())

    def test_every_image_once_with_label_and_source(self, trained):
        engine = trained.engine
        table = read(engine, "scores.csv")
        samples = engine.trainer.datamodule.test_data.samples
        assert table.columns.tolist() == ["image", "source", "label", "score", "probability", "predicted"]
        assert [name.split("/")[1] for name in table.image] == [path.rpartition("/")[2] for path in samples.image_path]
        assert (table.label == "sick").tolist() == (samples.label_index == 1).tolist()
        assert set(table.source) == {"phantom"}

    def test_run_record(self, trained):
        record = json.loads((report_of(trained.engine) / "run.json").read_text())
        assert record["stage"] == "fit"
        assert record["config"]["model"]["init_args"]["image_size"] == 32
        assert record["config"]["data"]["attributes"]["n_normal"] == 24

    def test_auroc_of_the_figure_is_scikit_learns(self, trained):
        table = read(trained.engine, "scores.csv")
        auroc = roc_auc_score(table.label == "sick", table.score)
        counts = table.label.value_counts()
        legend = [text.get_text() for text in trained.figures["roc_curve.png"].axes[0].get_legend().get_texts()]
        assert legend[1] == f"phantom: AUROC {auroc:.3f} ({counts['normal']} normal, {counts['sick']} sick)"

    def test_sheet_shows_both_classes_with_reconstructions(self, trained):
        panels = [panel for panel in trained.figures["residuals.png"].axes if panel.images]
        counts = read(trained.engine, "scores.csv").label.value_counts().clip(upper=4)
        titles = ["X-ray", "reconstruction", "anomaly map, true lesion outlined"]
        assert [panel.get_title() for panel in panels[:6]] == 2 * titles
        assert len(panels) == 3 * counts.sum()

    def test_one_message_says_what_is_where(self, trained):
        (message,) = trained.messages
        results = Path(trained.engine.trainer.default_root_dir)
        assert f"curves, tables, images:   {results / 'report'}\n" in message
        assert f"checkpoint:               {results / 'weights' / 'lightning' / 'model.ckpt'}\n" in message
        assert "Tested: the last weights, after epoch 1.\n" in message
        assert "Best on validation: epoch" in message
        assert "Next: Engine().export(model" in message
        assert message.endswith("For research, not a medical device.")


def test_export_command_quotes_paths(tmp_path):
    (tmp_path / "my model.yaml").touch()
    command = report._export_command(tmp_path / "my model.yaml", tmp_path / "a.ckpt", tmp_path / "results")
    assert command == (
        f"anomalib export --config '{tmp_path}/my model.yaml' --ckpt_path {tmp_path}/a.ckpt --export_type openvino "
        f"--export_root {tmp_path}/results"
    )


def test_resumed_training_goes_on(root, trained, tmp_path, caplog):
    first = trained.engine
    checkpoint = first.best_model_path
    with caplog.at_level(logging.INFO, logger=LOGGER):
        engine, _, _ = run(root, tmp_path, max_epochs=3, ckpt_path=checkpoint)
    losses = read(engine, "losses.csv")
    assert list(losses.epoch) == [0, 1, 2]
    pd.testing.assert_frame_equal(losses[:2], read(first, "losses.csv"))
    # anomalib tests the checkpoint that a training was resumed from; whoever reads the figures must know.
    assert "after epoch 1 in the given checkpoint model.ckpt, NOT those trained now (up to epoch 2)." in caplog.text
    new = Path(engine.trainer.default_root_dir) / "weights" / "lightning" / "model.ckpt"
    assert f"checkpoint:               {new}\n" in caplog.text
    pd.testing.assert_frame_equal(read(engine, "scores.csv"), read(first, "scores.csv"))


def test_epochs_without_validation_have_no_values_of_it(root, tmp_path):
    engine, _, _ = run(root, tmp_path, verb="fit", max_epochs=3, check_val_every_n_epoch=2)
    losses = read(engine, "losses.csv")
    assert losses.val_image_AUROC.notna().tolist() == [False, True, False]
    assert losses.l_rec.notna().all()
    assert names(engine) == AFTER_FIT


def test_test_alone(root, trained, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        engine, _, _ = run(root, tmp_path, verb="test", ckpt_path=trained.engine.best_model_path)
    assert names(engine) == AFTER_TEST | {"run_test.json"}
    assert "Tested: the weights after epoch 1 in the given checkpoint model.ckpt." in caplog.text


def test_one_class_has_no_roc(root, tmp_path, caplog):
    engine, _, _ = run(root, tmp_path, kind=NormalOnly, max_epochs=1)
    assert names(engine) == AFTER_FIT | {"scores.csv", "residuals.png"}
    count = len(read(engine, "scores.csv"))
    assert f"No ROC curve and no histogram of the test: {count} normal and 0 sick images" in caplog.text


def test_only_process_zero_writes(root, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Trainer, "is_global_zero", property(lambda _: False))
    with caplog.at_level(logging.INFO, logger=LOGGER):
        engine, _, _ = run(root, tmp_path, max_epochs=1)
    assert names(engine) == set()
    assert not [record for record in caplog.records if record.name == LOGGER]


def test_scores_of_all_processes_come_together(monkeypatch):
    mine, others = (
        [ImageScore("a", "sick", 1.0), ImageScore("b", "normal", 2.0)],
        [ImageScore("c", "sick", 3.0), ImageScore("a", "sick", 1.0)],
    )

    def all_gather_object(parts, own):
        parts[:] = [own, others]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    assert [each.image_path for each in report._gather(mine)] == ["a", "b", "c"]


def test_a_model_of_anomalib(root, tmp_path):
    pre_processor = Padim.configure_pre_processor((32, 32))
    model = Padim(
        "resnet18", layers=["layer1"], pre_trained=False, n_features=4, pre_processor=pre_processor, visualizer=False
    )
    engine, _, _ = run(root, tmp_path, model=model)
    assert names(engine) >= AFTER_TEST
    assert read(engine, "losses.csv").epoch.tolist() == [0]


def test_scores_of_epochs_before_they_mean_anything_are_left_out(root, tmp_path):
    class Late(RoiSureGanomaly):
        first_scoring_epoch = 1

    model = Late(image_size=32, network={"n_features": 4, "latent_dim": 5}, visualizer=False)
    run(root, tmp_path, model=model, verb="fit", max_epochs=2)
    (path,) = tmp_path.rglob("losses.csv")
    losses = pd.read_csv(path)
    assert list(losses.val_image_AUROC.isna()) == [True, False]
    assert losses.l_gen.notna().all()
