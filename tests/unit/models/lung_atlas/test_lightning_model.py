"""LungAtlas learns in one epoch from healthy films, repeats itself, and refuses what it cannot learn from or score."""

from __future__ import annotations

import pytest
import torch
from anomalib.engine import Engine
from lightning.pytorch import Trainer, seed_everything

from anomalib_cxr import LungAtlas
from anomalib_cxr.errors import DatasetError, SettingError
from anomalib_cxr.models.lung_atlas import augmentation, lightning_model
from anomalib_cxr.segmentation.network import LungSegmenter, save_segmenter
from anomalib_cxr.segmentation.packaged import load_packaged_segmenter

from ..xrays import LUNGS, Films
from .conftest import N_HEALTHY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*You defined a `validation_step` but have no `val_dataloader`"),
]


class NamedFilms(Films):
    """Films in files of their own names."""

    def __getitem__(self, index):
        return super().__getitem__(index).update(image_path=f"films/{index}.png")


def without_lung(films, number, columns):
    """Take the lung out of some columns of a film."""
    films.images[number, :, :, columns] += 0.5 * LUNGS[:, columns]
    return films


@pytest.fixture
def sure(monkeypatch):
    """Let a model find the lungs of films for certain: they are the dark half of the gray values."""
    return lambda model: monkeypatch.setattr(model.model.segmenter, "forward", lambda gray: (gray < 0).float())


@pytest.fixture
def not_fitted(monkeypatch):
    """Keep what the atlas would be fitted to, and by which seed, instead of seconds of fitting."""
    asked = []
    monkeypatch.setattr(lightning_model, "fit_atlas", lambda model, view, n_folds, seed: asked.append((view, seed)))
    return asked


@pytest.fixture
def score(trained, loader):
    """Score films by the trained atlas, as `anomalib predict` does."""

    def run(films):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = Trainer(accelerator="cpu", devices=1, **quiet)
        (batch,) = trainer.predict(trained.lightning_module, loader(films, 16))
        return batch

    return run


class TestTraining:
    def test_one_epoch_fits_everything_before_validation(self, trained):
        atlas = trained.lightning_module.model
        assert trained.current_epoch == 1
        assert atlas.exposure_adjustment.fitted
        assert 0 < trained.callback_metrics["val_image_AUROC"] <= 1
        for name, value in atlas.state_dict().items():
            assert torch.isfinite(value).all(), name
        untouched = dict(LungAtlas(**trained.lightning_module.hparams).model.state_dict())
        learned = {name for name, value in atlas.state_dict().items() if not torch.equal(value, untouched[name])}
        assert {name.split(".")[0].split("_")[0] for name in learned} == {
            "segmenter", "parts", "exposure", "combination", "standard", "healthy",
        }  # fmt: skip

    def test_same_seed_same_atlas_with_and_without_validation(self, fit, make_atlas, trained, assert_same):
        seed_everything(7)
        model = make_atlas().eval().train()  # as after scoring
        fit(model, 1, Films(N_HEALTHY))
        assert_same(model.model.state_dict(), trained.lightning_module.model.state_dict())

    def test_without_a_seed_that_of_the_surroundings_counts(self, fit, make_atlas, not_fitted):
        for around in (5, 5, 6):
            seed_everything(around)
            fit(make_atlas(seed=None), 1, Films(N_HEALTHY))
        assert [seed for _, seed in not_fitted] == [5, 5, 6]

    def test_checkpoint_scores_the_same(self, trained, tmp_path, lung_segmenter):
        trained.save_checkpoint(tmp_path / "model.ckpt")
        loaded = LungAtlas.load_from_checkpoint(tmp_path / "model.ckpt", segmenter=None).eval()
        images = loaded.pre_processor(torch.cat([Films(3).images, torch.rand(1, 3, 32, 32)]))
        with torch.no_grad():
            found, expected = (each.model(images) for each in (loaded, trained.lightning_module.eval()))
        assert torch.equal(found.pred_score, expected.pred_score)
        assert torch.equal(found.anomaly_map, expected.anomaly_map)
        assert len(set(found.pred_score.tolist())) == 4

    def test_checkpoint_of_another_version(self, trained, tmp_path):
        """As of the version with lesion networks and without spots: a part more, a score less, another name."""
        trained.save_checkpoint(tmp_path / "model.ckpt")
        content = torch.load(tmp_path / "model.ckpt", weights_only=True)
        weights = content["state_dict"]
        weights["model.detectors.0.weight"] = torch.zeros(3)
        weights["model.combination.weights"] = torch.ones(4)
        del weights["model.combination.center"]
        torch.save(content, tmp_path / "old.ckpt")
        with pytest.raises(
            SettingError, match=r"another version of this package wrote.*\n.*\n.*train it anew"
        ) as error:
            LungAtlas.load_from_checkpoint(tmp_path / "old.ckpt")
        assert (
            "(it lacks model.combination.center; it has model.detectors.0.weight; of another shape "
            "model.combination.weights)" in str(error.value)
        )

    def test_engine_gives_the_trainer_one_epoch_on_one_device(self, make_atlas, loader, not_fitted, tmp_path):
        engine = Engine(accelerator="cpu", max_epochs=3, gradient_clip_val=1, logger=False, default_root_dir=tmp_path)
        model = make_atlas()
        engine.fit(model, loader(Films(N_HEALTHY), 32))
        assert model.trainer_arguments == {
            "gradient_clip_val": 0, "num_sanity_val_steps": 0, "max_epochs": 1, "devices": 1,
        }  # fmt: skip
        assert engine.trainer.current_epoch == engine.trainer.max_epochs == 1
        assert len(not_fitted) == 1

    def test_of_many_images_a_sample_is_learned_from(self, fit, make_atlas, not_fitted):
        for settings in ({}, {"max_images": 60}, {"max_images": 60}, {"max_images": 60, "seed": 1}):
            fit(make_atlas(**settings), 1, Films(N_HEALTHY))
        everything, *samples = (view.lungs for view, _ in not_fitted)
        assert [len(each) for each in (everything, *samples)] == [64, 60, 60, 60]
        kept = [
            {number for number in range(64) if (sample == everything[number]).flatten(1).all(1).any()}
            for sample in samples
        ]
        assert [len(each) for each in kept] == [60, 60, 60]
        assert kept[0] == kept[1] != kept[2]


class TestScores:
    def test_what_is_painted_is_found_where_it_is(self, trained):
        images = Films(1).images.repeat(2, 1, 1, 1)
        images[1, :, 12:16, 6:10] = 0.9  # in the lung on the left
        model = trained.lightning_module.eval()
        with torch.no_grad():
            found = model.model(model.pre_processor(images))
        assert found.pred_score[1] > found.pred_score[0] + 1  # of the spread of healthy films
        row, column = divmod(int((found.anomaly_map[1] - found.anomaly_map[0]).argmax()), 128)
        assert 40 <= row < 72
        assert 16 <= column < 48

    @pytest.mark.parametrize(
        ("columns", "missing"),
        [
            (slice(0, 16), "the one on the image's left"),
            (slice(16, 32), "the one on the image's right"),
            (slice(0, 32), "the one on the image's left, the one on the image's right"),
        ],
    )
    def test_a_lung_that_is_not_found_is_told_of(self, trained, score, sure, caplog, columns, missing):
        sure(trained.lightning_module)
        batch = score(without_lung(NamedFilms(3), 1, columns))
        told = [record.getMessage() for record in caplog.records if record.name.startswith("anomalib_cxr.models.lung")]
        assert told == [f"films/1.png: lung not found: {missing}; its standard position was scored"]
        assert torch.isfinite(batch.pred_score).all()
        assert torch.isfinite(batch.anomaly_map).all()

    def test_images_without_names_are_told_of_by_their_number(self, trained, score, sure, caplog):
        sure(trained.lightning_module)
        score(without_lung(Films(3), 2, slice(0, 16)))
        assert "image 2 of the batch: lung not found: the one on the image's left" in caplog.text

    def test_lungs_that_touch_the_border(self, trained, sure):
        films = Films(2)
        films.images[:] = 0.8
        films.images[..., :12] = films.images[..., 20:] = 0.3
        model = trained.lightning_module.eval()
        sure(model)
        with torch.no_grad():
            found = model.model(model.pre_processor(films.images))
        assert torch.isfinite(found.pred_score).all()
        assert found.anomaly_map.shape == (2, 1, 128, 128)
        assert torch.isfinite(found.anomaly_map).all()
        marked = found.anomaly_map > 0
        assert marked[..., :46].any(dim=-1).all()  # in each row of both lungs; not where healthy lungs vary as much
        assert marked[..., 82:].any(dim=-1).all()
        assert not marked[..., 54:74].any()  # the lungs end at 48 and begin at 80; the margin is 3 px


class TestBadInput:
    def test_fewer_healthy_images_than_needed(self, fit, make_atlas):
        with pytest.raises(
            DatasetError, match=r"59 healthy training images\n.*at least 60.*\n.*add healthy images; .*masks"
        ):
            fit(make_atlas(), 1, Films(59))

    def test_the_least_number_is_enough(self, fit, make_atlas, not_fitted):
        fit(make_atlas(), 1, Films(60))
        ((view, _),) = not_fitted
        assert len(view.lungs) == 60

    def test_a_segmenter_that_finds_no_lungs(self, fit, make_atlas, tmp_path):
        segmenter = LungSegmenter(32, (4, 4, 8, 8, 16))
        torch.nn.init.constant_(segmenter.unet.final_conv.bias, -100.0)
        save_segmenter(segmenter, tmp_path / "blind.pt")
        with pytest.raises(DatasetError, match=r"both lungs in 0 of 60 .*\n.*\n.*segment predict.*\(segmenter\)"):
            fit(make_atlas(segmenter=str(tmp_path / "blind.pt")), 1, Films(60))

    def test_some_training_images_without_a_lung(self, fit, make_atlas, sure, caplog, monkeypatch):
        monkeypatch.setattr(augmentation, "ENOUGH", 0)  # no moved copies: a third of the time
        films = without_lung(without_lung(Films(N_HEALTHY), 3, slice(0, 16)), 9, slice(0, 32))
        model = make_atlas()
        sure(model)
        fit(model, 1, films)
        assert (
            "In 2 of 64 healthy training images a lung was not found; its standard position is used." in caplog.messages
        )
        for name, value in model.model.state_dict().items():
            assert torch.isfinite(value).all(), name

    @pytest.mark.parametrize("masks", [False, True])
    def test_without_a_segmenter_that_of_the_package(self, fit, make_atlas, sure, not_fitted, assert_same, masks):
        model = make_atlas(segmenter=None)
        sure(model)
        fit(model, 1, Films(N_HEALTHY, masks=masks))
        assert len(not_fitted) == 1
        assert_same(model.model.segmenter.network.state_dict(), load_packaged_segmenter().state_dict())

    @pytest.mark.parametrize("verb", ["validate", "test", "predict"])
    def test_scoring_before_training(self, make_atlas, loader, tmp_path, verb):
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, default_root_dir=tmp_path
        )
        with pytest.raises(SettingError, match=r"not fitted to healthy lungs\n.*\n.*train it .*--ckpt_path"):
            getattr(trainer, verb)(make_atlas(), loader(Films(2)))

    @pytest.mark.parametrize("kind", ["torch", "onnx", "openvino"])
    def test_exporting_before_training(self, make_atlas, tmp_path, kind):
        with pytest.raises(SettingError, match="not fitted to healthy lungs"):
            getattr(make_atlas(), f"to_{kind}")(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_settings_out_of_range_all_at_once(self):
        wrong = {
            "image_size": 100, "n_folds": 1, "n_components": 0, "n_textures": -1, "n_dims": 101, "n_bank": 0,
            "max_images": 59,
        }  # fmt: skip
        with pytest.raises(SettingError) as caught:
            LungAtlas(**wrong)
        assert caught.value.found == ", ".join(f"{name} = {value}" for name, value in wrong.items())
        assert all(f"{name} " in caught.value.expected for name in wrong)
