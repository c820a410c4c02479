"""Exposure adjustment and healthy codes: fitted before each validation, to cross-fitted scores, and kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LinearRegression

from anomalib_cxr import RoiImageBatch, RoiSureGanomaly
from anomalib_cxr.errors import ScoreError, SettingError
from anomalib_cxr.models.roi_sure_ganomaly import scores
from anomalib_cxr.models.roi_sure_ganomaly.scores import fold_of

from ..xrays import grouped
from .test_lightning_model_ensemble import Named

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*You defined a `validation_step` but have no `val_dataloader`"),
]
N = 64
EXTENDED = {
    "network__n_features": 4, "network__latent_dim": 5, "lungs__alignment": "rows", "lungs__normalization": "local",
    "score": "residual", "ensemble__exposure_adjustment": True, "ensemble__n_folds": 2, "reconstruction": "l2",
    "target": "image", "lungs__segmenter_steps": 30, "seed": 0,
}  # fmt: skip


class Varied(Named):
    """Films of different exposures."""

    def __init__(self, n=N, n_sick=0):
        super().__init__(n, n_sick)
        gain = torch.linspace(0.4, 1, n).reshape(-1, 1, 1, 1)
        self.images = self.images * gain[torch.randperm(n, generator=torch.Generator().manual_seed(0))]


class Fitted(Callback):
    """Keeps what was fitted at each validation and each save."""

    def __init__(self):
        self.kept = []

    def on_validation_end(self, trainer, pl_module):
        self.kept.append(
            {name: value.clone() for name, value in pl_module.model.exposure_adjustment.state_dict().items()}
        )


@pytest.fixture(scope="module")
def prepared():
    batch = RoiImageBatch.collate([Varied()[index] for index in range(N)])
    images = torch.nn.functional.interpolate(2 * batch.image - 1, (64, 64), mode="bilinear", antialias=True)
    return images, torch.tensor([fold_of(path, 2) for path in batch.image_path])


class TestExposureAdjustment:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory):
        """A model that was validated twice, with what it knew each time and its checkpoint."""
        from lightning.pytorch import Trainer  # noqa: PLC0415
        from torch.utils.data import DataLoader  # noqa: PLC0415

        folder, fitted = tmp_path_factory.mktemp("trained"), Fitted()
        model = RoiSureGanomaly(image_size=32, visualizer=False, **grouped(EXTENDED))
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=2, default_root_dir=folder, logger=False, num_sanity_val_steps=0,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[fitted, ModelCheckpoint(folder, "model")],
        )  # fmt: skip
        collate = RoiImageBatch.collate
        trainer.fit(model, DataLoader(Varied(), 16, True, collate_fn=collate),
                    DataLoader(Varied(4, 2), 4, collate_fn=collate))  # fmt: skip
        return model.eval(), fitted.kept, folder / "model.ckpt"

    def test_is_fitted_again_before_each_validation(self, trained):
        _, kept, _ = trained
        assert len(kept) == 2
        assert not torch.equal(kept[0]["offset"], kept[1]["offset"])

    def test_learns_from_cross_fitted_scores(self, trained, prepared):
        """What is kept is the mean of these scores, and the residual about it has deviation 1."""
        model, (images, folds) = trained[0].model, prepared
        with torch.no_grad():
            features = model.features(images)
        own = torch.where(folds == 0, features.residuals[:, 0], features.residuals[:, 1])
        assert model.exposure_adjustment.offset.item() == pytest.approx(own.mean().item(), abs=2e-3)
        deviations = model.exposure_adjustment(own[:, None], features.crops)[:, 0]
        assert deviations.std(correction=0).item() == pytest.approx(1, abs=0.02)
        assert deviations.mean().item() == pytest.approx(0, abs=0.02)

    def test_an_image_scores_the_adjusted_mean_of_the_ensemble(self, trained, prepared):
        model, images = trained[0].model, prepared[0][:5]
        with torch.no_grad():
            features = model.features(images)
            found = model(images).pred_score
        torch.testing.assert_close(
            found, model.exposure_adjustment(features.residuals.mean(dim=1, keepdim=True), features.crops)[:, 0]
        )

    def test_scores_follow_the_exposure_less(self, trained, prepared):
        model, (images, folds) = trained[0].model, prepared
        with torch.no_grad():
            features = model.features(images)
        own = features.residuals.gather(1, folds[:, None])[:, 0]
        brightness = images.mean(dim=(1, 2, 3))[:, None].numpy()

        def explained(scores):
            return LinearRegression().fit(brightness, scores.numpy()).score(brightness, scores.numpy())

        assert explained(model.exposure_adjustment(own[:, None], features.crops)[:, 0]) < 0.5 * explained(own)

    def test_a_checkpoint_holds_it(self, trained, prepared):
        loaded = RoiSureGanomaly.load_from_checkpoint(trained[2]).eval()
        assert loaded.model.fitted
        with torch.no_grad():
            assert torch.equal(loaded(prepared[0][:3]).pred_score, trained[0](prepared[0][:3]).pred_score)

    def test_the_map_is_on_the_image_and_0_outside_the_lungs(self, trained, prepared):
        with torch.no_grad():
            anomaly_map = trained[0].model(prepared[0][:2]).anomaly_map
        assert anomaly_map.shape == (2, 1, 64, 64)
        assert 0 <= anomaly_map.min() < anomaly_map.max() <= 1
        assert (anomaly_map[..., :4, :] == 0).all()
        assert trained[0].model.reconstruct(prepared[0][:2]).shape == (2, 1, 64, 64)

    def test_without_validation_it_is_fitted_at_the_end_of_the_epoch(self, fit, make_tiny, monkeypatch):
        monkeypatch.setattr(scores, "FEWEST_IMAGES", 8)
        model = make_tiny(**{**EXTENDED, "lungs__segmenter_steps": 2})
        fit(model, 1, Varied(8))
        assert model.model.fitted
        assert model.model.training

    def test_no_more_images_than_needed_are_looked_at(self, fit, make_tiny, monkeypatch):
        monkeypatch.setattr(scores, "FEWEST_IMAGES", 8)
        monkeypatch.setattr(scores, "MOST_IMAGES", 10)
        model, seen = make_tiny(**{**EXTENDED, "lungs__segmenter_steps": 2}), []
        monkeypatch.setattr(
            model.model, "fit_healthy", lambda features, folds: seen.append((len(features.residuals), len(folds)))
        )
        fit(model, 1, Varied(20))
        assert seen == [(10, 10)]


class TestCodes:
    def test_each_network_has_those_of_the_images_it_has_learned_from(self, fit, make_tiny, monkeypatch):
        monkeypatch.setattr(scores, "FEWEST_IMAGES", 16)
        model = make_tiny(score="mahalanobis", ensemble__n_folds=2, seed=0)
        fit(model, 1, Named(16))
        with torch.no_grad():
            codes = model.eval().model.features(2 * Named(16).images - 1).codes.double().numpy()
        folds = np.array([fold_of(f"film_{index}.png", 2) for index in range(16)])
        for number, network in enumerate(model.model.ensemble):
            oracle = LedoitWolf().fit(codes[folds != number, number])
            expected = np.log(oracle.mahalanobis(codes[:, number]) / codes.shape[2])
            found = network.codes(torch.from_numpy(codes[:, number]).float())
            np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-2)

    def test_a_single_network_has_all(self, fit, make_tiny, monkeypatch):
        monkeypatch.setattr(scores, "FEWEST_IMAGES", 16)
        model = make_tiny(score="mahalanobis", seed=0)
        fit(model, 1, Named(16, masks=True))
        images = 2 * Named(16).images - 1
        with torch.no_grad():
            codes = model.eval().model.features(images).codes[:, 0].double()
            found = model.model(images).pred_score
        expected = np.log(LedoitWolf().fit(codes.numpy()).mahalanobis(codes.numpy()) / codes.shape[1])
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-2)


class TestRefused:
    @pytest.mark.parametrize(
        "settings", [{"score": "mahalanobis"}, {"ensemble__exposure_adjustment": True, "ensemble__n_folds": 2}]
    )
    def test_fewer_than_60_images(self, fit, make_tiny, settings):
        with pytest.raises(SettingError, match="found: 59 training images, and a score that learns from healthy"):
            fit(make_tiny(**settings), 1, Named(59))

    @pytest.mark.parametrize(
        ("settings", "missing"),
        [
            ({"score": "mahalanobis"}, "healthy codes"),
            ({"ensemble__exposure_adjustment": True, "ensemble__n_folds": 2}, "the exposure adjustment"),
        ],
    )
    def test_a_score_before_anything_was_fitted(self, make_tiny, tmp_path, settings, missing):
        model = make_tiny(**settings).eval()
        with pytest.raises(ScoreError, match=f"found: a model without {missing}"):
            model(torch.rand(1, 3, 40, 40))
        for export in (model.to_torch, model.to_onnx, model.to_openvino):
            with pytest.raises(ScoreError, match=f"found: a model without {missing}"):
                export(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_checkpoint_of_other_settings(self, fit, make_tiny, tmp_path):
        fit(make_tiny(), 1, Named(4), callbacks=[ModelCheckpoint(tmp_path, "model")])
        with pytest.raises(SettingError, match=r"a checkpoint with score = 'latent', ensemble\.n_folds = 1"):
            RoiSureGanomaly.load_from_checkpoint(tmp_path / "model.ckpt", score="residual", ensemble={"n_folds": 2})
