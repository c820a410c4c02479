"""Training, checkpoints and post-processing on tiny images, against a plain two-step training written out here."""

from __future__ import annotations

import logging
from copy import deepcopy

import numpy as np
import pytest
import torch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from anomalib_cxr import RoiImageBatch, RoiImageItem, RoiSureGanomaly
from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.errors import DivergenceError, SettingError
from anomalib_cxr.functional import gaussian_sure
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.models.base.reproducible import restore_random_states
from anomalib_cxr.models.roi_sure_ganomaly import adversarial, lightning_model
from anomalib_cxr.segmentation.network import segment_lungs
from anomalib_cxr.segmentation.packaged import load_packaged_segmenter

from ..xrays import LUNGS, SIDE, Films, grouped

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*You defined a `validation_step` but have no `val_dataloader`"),
]


class Phantoms(Dataset):
    """Drawn chests, with the lung masks that a segmenter finds, or with none."""

    def __init__(self, segmenter=None):
        drawn = np.stack([draw_phantom(np.random.default_rng(number), SIDE).image for number in range(4)])
        self.images, self.segmenter = torch.from_numpy(drawn).float()[:, None], segmenter

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        lungs = None if self.segmenter is None else torch.from_numpy(segment_lungs(self.segmenter, image))
        assert lungs is None or lungs.float().mean() > 0.1
        return RoiImageItem(image=image.expand(3, -1, -1), roi_mask=lungs)


def loader(films, *, shuffle=False, workers=0):
    return DataLoader(films, 4, shuffle=shuffle, collate_fn=RoiImageBatch.collate, num_workers=workers)


def make_model(kind=RoiSureGanomaly, **settings):
    tiny = {"image_size": SIDE, "network__n_features": 4, "network__latent_dim": 5, "visualizer": False}
    return kind(**grouped({**tiny, **settings}))


def make_trainer(folder, epochs=1, callbacks=(), **arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    if not callbacks:
        quiet["enable_checkpointing"] = False
    return Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, default_root_dir=folder, callbacks=list(callbacks),
        **{**quiet, **arguments},
    )  # fmt: skip


def fit(model, folder, films=None, val_films=None, *, ckpt_path=None, **arguments):
    trainer = make_trainer(folder, **arguments)
    trainer.fit(model, loader(films or Films()), val_films and loader(val_films), ckpt_path=ckpt_path)
    return trainer


def weights_of(part):
    return {name: value.detach().clone() for name, value in part.named_parameters()}


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, **{"rtol": 0, "atol": 0, "equal_nan": True, **tolerance}, msg=name
        )


class TestTrainingStep:
    @pytest.mark.parametrize("reconstruction", ["sure", "l2", "l1"])
    def test_each_network_learns(self, tmp_path, reconstruction):
        model = make_model(reconstruction=reconstruction)
        before = weights_of(model)
        fit(model, tmp_path, limit_train_batches=1)
        for name, value in weights_of(model).items():
            assert not torch.equal(value, before[name]), name

    @pytest.mark.parametrize("target", ["lungs", "image"])
    @pytest.mark.parametrize("reconstruction", ["sure", "l2", "l1"])
    def test_is_the_plain_two_step_update(self, tmp_path, reconstruction, target):
        """A generator step and then a discriminator step, as written out below."""
        torch.manual_seed(0)
        model = make_model(
            reconstruction=reconstruction,
            target=target,
            sure__sigma=0.3,
            weights__adversarial=2.0,
            weights__latent=3.0,
            weights__reconstruction=10.0,
        )
        oracle = deepcopy(model)
        torch.manual_seed(7)
        fit(model, tmp_path, Films(4))

        torch.manual_seed(7)
        torch.empty((), dtype=torch.int64).random_()  # the loader's seed
        gradients = plain_two_steps(oracle, 2 * Films(4).images[:, :1] - 1, LUNGS.expand(4, 1, -1, -1))
        tolerance = {"rtol": 1e-3, "atol": 1e-4}  # rounding of float32: gradients reach 18
        assert_same({name: weight.grad for name, weight in model.named_parameters()}, gradients, **tolerance)
        # Adam's first step has the length lr: a gradient near 0 may turn either way.
        clear = [name for name, gradient in gradients.items() if gradient.abs().min() > 1e-4]
        assert any("encoder" in name for name in clear)
        assert any("discriminator" in name for name in clear)
        found, expected = weights_of(model), weights_of(oracle)
        assert_same({name: found[name] for name in clear}, {name: expected[name] for name in clear}, atol=1e-6)

    @pytest.mark.parametrize(
        "settings",
        [{"weights__adversarial": 0}, {"weights__latent": 0}, {"weights__adversarial": 0, "weights__latent": 0}],
    )
    def test_what_has_no_weight_costs_nothing_and_changes_nothing(self, tmp_path, settings):
        """The generator moves as it does where the weight is so small that it does not count."""
        judged, generators = [], []
        for weights in (settings, dict.fromkeys(settings, 1e-30)):
            model = make_model(reconstruction="l2", seed=0, **weights)
            model.discriminators[0].register_forward_hook(lambda *_, weights=weights: judged.append(weights))
            before = weights_of(model)
            fit(model, tmp_path)
            generators.append(weights_of(model.model.ensemble[0].generator))
            left_alone = {name for name, value in weights_of(model).items() if torch.equal(value, before[name])}
            if weights is settings:
                still = {"weights__latent": "model.ensemble.0.encoder", "weights__adversarial": "discriminators"}
                without = tuple(part for name, part in still.items() if name in settings)
                assert left_alone == {name for name in before if name.startswith(without)}
        assert_same(*generators)
        assert (settings in judged) == ("weights__adversarial" not in settings)

    def test_generator_steps_before_discriminator(self, tmp_path):
        steps = []

        class Watched(RoiSureGanomaly):
            def configure_optimizers(self):
                optimizers = super().configure_optimizers()
                for name, optimizer in zip(("generator", "discriminator"), optimizers, strict=True):
                    optimizer.register_step_post_hook(lambda *_, name=name: steps.append(name))
                return optimizers

        model = make_model(Watched)
        fit(model, tmp_path)
        assert steps == ["generator", "discriminator"] * 2
        generator, discriminator = model.configure_optimizers()
        held = [{id(weight) for weight in one.param_groups[0]["params"]} for one in (generator, discriminator)]
        assert held[0] == {id(weight) for weight in model.model.parameters()}
        assert held[1] == {id(weight) for weight in model.discriminators[0].parameters()}

    def test_settings_of_the_optimizers(self):
        for optimizer in make_model(optimizer__lr=0.01, optimizer__betas=(0.1, 0.2)).configure_optimizers():
            assert isinstance(optimizer, torch.optim.Adam)
            assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (0.01, (0.1, 0.2))

    def test_running_statistics_are_updated_once_a_step(self, tmp_path):
        model = make_model(reconstruction="sure")
        fit(model, tmp_path)
        counts = {name: value for name, value in model.model.named_buffers() if name.endswith("num_batches_tracked")}
        assert counts
        assert set(map(int, counts.values())) == {2}

    def test_sure_stays_in_float32_under_mixed_precision(self, tmp_path):
        seen = set()
        model = make_model(reconstruction="sure")
        model.model.ensemble[0].generator.register_forward_hook(
            lambda _, inputs, output: seen.update((inputs[0].dtype, output.dtype))
        )
        trainer = fit(model, tmp_path, precision="bf16-mixed")
        assert seen == {torch.float32}
        assert torch.isfinite(trainer.callback_metrics["divergence"])


def plain_two_steps(model, image, mask):
    """Update generator, then discriminator, at the same reconstruction; return the gradients."""
    lungs = model.hparams.target == "lungs"
    real = torch.where(mask.bool(), image, torch.tensor(-1.0)) if lungs else image
    networks, opponent = model.model.ensemble[0], model.discriminators[0]
    generator, discriminator = (
        torch.optim.Adam(part.parameters(), lr=2e-4, betas=(0.5, 0.999)) for part in (networks, opponent)
    )
    output = opponent.encoder
    model.train()
    z = networks.generator.encoder(image)
    reconstructed = networks.generator.decoder(z)
    z_hat = networks.encoder(reconstructed)
    if model.hparams.reconstruction == "sure":
        risk = gaussian_sure(image, reconstructed, networks.generator, 0.3, mask if lungs else None, tau=0.01)
        l_rec = risk.mean()
    else:
        l_rec = {"l2": F.mse_loss, "l1": F.l1_loss}[model.hparams.reconstruction](reconstructed, real)
    l_adv = (output.features(real) - output.features(reconstructed)).flatten(1).norm(dim=1).mean()
    l_enc = (z - z_hat).flatten(1).norm(dim=1).mean()
    before = deepcopy(opponent)
    (2 * l_adv + 3 * l_enc + 10 * l_rec).backward()
    gradients = {f"model.{name}": weight.grad.clone() for name, weight in model.model.named_parameters()}
    generator.step()
    assert_same(weights_of(opponent), weights_of(before))

    discriminator.zero_grad()  # gradients that the generator's loss left there
    chance_real, chance_generated = (output(x).flatten().sigmoid() for x in (real, reconstructed.detach()))
    (-0.5 * chance_real.log().mean() - 0.5 * (1 - chance_generated).log().mean()).backward()
    gradients |= {f"discriminators.0.{name}": weight.grad for name, weight in opponent.named_parameters()}
    discriminator.step()
    return gradients


class TestAccumulation:
    """Batches whose mean gradient makes a step; with a rate at which weights stay as they are."""

    def gradients(self, folder, films, **settings):
        """Return the gradients that optimizers step by, of each step of each."""
        seen = []

        class Watched(RoiSureGanomaly):
            def on_before_optimizer_step(self, _):
                seen.append({name: weight.grad.clone() for name, weight in self.named_parameters()})

        fit(make_model(Watched, reconstruction="l2", optimizer__lr=1e-20, seed=0, **settings), folder, films)
        return seen

    def test_steps_by_the_mean_gradient(self, tmp_path):
        films = Films(12)
        each = [self.gradients(tmp_path, [films[n] for n in range(first, first + 4)])[0] for first in (0, 4, 8)]
        steps = self.gradients(tmp_path, films, optimizer__accumulate_grad_batches=2)
        assert len(steps) == 4  # of generator and discriminator, by two batches and by the one that is left
        mean = {name: (each[0][name] + each[1][name]) / 2 for name in each[0]}
        assert_same(steps[0], mean, rtol=1e-4, atol=1e-7)
        assert_same(steps[2], each[2], rtol=1e-4, atol=1e-7)

    def test_one_batch_at_a_time_is_the_default(self, tmp_path):
        steps = self.gradients(tmp_path, Films(8))
        again = self.gradients(tmp_path, Films(8), optimizer__accumulate_grad_batches=1)
        assert len(steps) == len(again) == 4
        assert_same(again[-1], steps[-1])

    @pytest.mark.parametrize(
        "settings",
        [
            {"optimizer__accumulate_grad_batches": 0},
            {"optimizer__accumulate_grad_batches": 2, "adversary__scheme": "wgan_gp"},
        ],
    )
    def test_what_cannot_be(self, settings):
        with pytest.raises(SettingError, match=r"found: optimizer\.accumulate_grad_batches = "):
            make_model(**settings)


class TestReinitialization:
    @pytest.mark.parametrize(("loss", "again"), [(0.9e-5, True), (1.1e-5, False)])
    def test_a_discriminator_that_has_won_starts_again(self, tmp_path, monkeypatch, loss, again):
        real_loss = adversarial.discriminator_loss
        monkeypatch.setattr(adversarial, "discriminator_loss", lambda *x: (y := real_loss(*x)) - y.detach() + loss)
        model = make_model(optimizer__lr=1.0)
        fit(model, tmp_path, limit_train_batches=1)
        spread = max(w.std().item() for name, w in model.discriminators[0].named_parameters() if w.ndim == 4)
        assert (spread < 0.03) == again  # a step of length 1 is far from N(0, 0.02)
        assert max(w.std().item() for w in model.model.parameters() if w.ndim == 4) > 0.5


class TestDivergence:
    def test_names_term_epoch_and_step_and_keeps_the_former_checkpoint(self, tmp_path):
        seed_everything(0)
        saved = ModelCheckpoint(tmp_path, "model")
        fit(make_model(), tmp_path, Films(), callbacks=[saved])
        before = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]
        (tmp_path / "model.ckpt").unlink()

        seed_everything(0)
        broken = Films(broken_after=12)  # the second batch of the second epoch
        expected = (
            r"l_adv = nan, l_enc = nan, l_rec = nan, l_gen = nan, l_dc = nan, divergence = nan "
            r"in epoch 1, step 3 \(batch 1 of the epoch\)"
        )
        with pytest.raises(DivergenceError, match=expected):
            fit(make_model(), tmp_path, broken, epochs=3, callbacks=[ModelCheckpoint(tmp_path, "model")])
        assert [file.name for file in tmp_path.iterdir()] == ["model.ckpt"]
        kept = torch.load(tmp_path / "model.ckpt", weights_only=True)
        assert kept["epoch"] == 0
        assert_same(kept["state_dict"], before)

    @pytest.mark.parametrize(
        ("place", "term", "others"),
        [(adversarial, "feature_matching", "l_adv"), (lightning_model, "latent_agreement", "l_enc")],
    )
    def test_names_the_broken_term_only(self, tmp_path, monkeypatch, place, term, others):
        monkeypatch.setattr(place, term, lambda *_: torch.tensor(float("inf"), requires_grad=True))
        model = make_model()
        before = weights_of(model)
        with pytest.raises(DivergenceError, match=rf"found: {others} = inf, l_gen = inf in epoch 0, step 0 \(batch 0"):
            fit(model, tmp_path)
        assert_same(weights_of(model), before)

    def test_broken_weights_are_not_saved(self, tmp_path):
        model = make_model()
        trainer = fit(model, tmp_path, callbacks=[ModelCheckpoint(tmp_path, "model")])
        before = (tmp_path / "model.ckpt").read_bytes()
        with torch.no_grad():
            model.model.ensemble[0].encoder.head.weight[0, 0, 0, 0] = float("inf")
        with pytest.raises(
            DivergenceError, match=r"not finite after epoch 1: model\.ensemble\.0\.encoder\.head\.weight\n"
        ):
            trainer.save_checkpoint(tmp_path / "model.ckpt")
        assert (tmp_path / "model.ckpt").read_bytes() == before


class TestMasks:
    def test_lungs_without_masks_are_those_of_the_packaged_segmenter(self, tmp_path, caplog):
        """The same training as with the masks that it finds; the checkpoint does not hold it."""
        trained = []
        for films in (Phantoms(), Phantoms(load_packaged_segmenter())):
            seed_everything(0)
            model = make_model()
            with caplog.at_level(logging.INFO, "anomalib_cxr"):
                fit(model, tmp_path, films, epochs=2)
            trained.append(weights_of(model))
        assert_same(*trained)
        assert sum("the one of the package is used" in line for line in caplog.messages) == 1
        assert not any("lung_masks" in name or "segmenter" in name for name in model.state_dict())

    def test_an_image_in_which_no_lungs_are_found(self, tmp_path):
        films = Phantoms()
        films.images[1] = 0.5
        model = make_model()
        fit(model, tmp_path, films)
        assert all(value.isfinite().all() for value in weights_of(model).values())

    @pytest.mark.parametrize("reconstruction", ["sure", "l1"])
    def test_the_whole_image_needs_none_and_ignores_those_there_are(self, tmp_path, reconstruction):
        trained = []
        for masks in (False, True):
            seed_everything(0)
            model = make_model(target="image", reconstruction=reconstruction)
            fit(model, tmp_path, Films(masks=masks))
            trained.append(weights_of(model))
        assert_same(*trained)

    def test_scoring_needs_none(self, tmp_path):
        (predicted,) = make_trainer(tmp_path).predict(make_model(), loader(Films(4, masks=False)))
        assert predicted.pred_score.shape == (4,)
        assert predicted.anomaly_map.shape == (4, SIDE, SIDE)


class TestReproducibility:
    def train(self, folder, epochs=1, *, seed=0, ckpt_path=None, workers=0, every=1, **saving):
        seed_everything(seed)
        model = make_model()
        saved = ModelCheckpoint(folder, save_last=True, **saving)
        trainer = make_trainer(folder, epochs, [saved], check_val_every_n_epoch=every)
        if ckpt_path:
            torch.rand(17)  # whatever a resumed process did before
        films = loader(Films(augment=True), shuffle=True, workers=workers)
        trainer.fit(model, films, loader(Films(n_sick=4, augment=True)), ckpt_path=ckpt_path)
        return model, trainer

    def test_same_seed_same_weights(self, tmp_path):
        first, again, other = (self.train(tmp_path, seed=seed)[0].state_dict() for seed in (1, 1, 2))
        assert_same(first, again)
        assert not torch.equal(
            first["model.ensemble.0.encoder.head.weight"], other["model.ensemble.0.encoder.head.weight"]
        )

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"workers": 1},
            {"save_on_train_epoch_end": False},  # saved by validation, before the epoch has ended
            {"every": 2},
        ],
    )
    def test_resumed_training_gives_the_weights_of_an_unbroken_one(self, tmp_path, settings):
        unbroken, _ = self.train(tmp_path / "unbroken", 4, **settings)
        self.train(tmp_path / "broken", 2, **settings)
        resumed, trainer = self.train(tmp_path / "on", 4, ckpt_path=tmp_path / "broken" / "last.ckpt", **settings)
        assert_same(resumed.state_dict(), unbroken.state_dict())
        assert (trainer.current_epoch, trainer.global_step) == (4, 16)

    def test_a_loaded_model_that_is_trained_anew_does_not_resume(self, tmp_path):
        self.train(tmp_path, 1)
        model = RoiSureGanomaly.load_from_checkpoint(tmp_path / "last.ckpt", visualizer=False)
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        model.trainer = make_trainer(tmp_path)
        model.on_fit_start()
        assert torch.equal(torch.rand(3), expected)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, whose probes have a generator of their own")
    def test_the_devices_random_numbers_are_resumed_too(self):
        model, checkpoint = make_model().cuda(), {}
        model.on_save_checkpoint(checkpoint)
        expected = torch.rand(3, device=model.device)
        checkpoint["hyper_parameters"] = dict(model.hparams)
        model.on_load_checkpoint(checkpoint)
        restore_random_states(model._random_states, model.device)
        assert torch.equal(torch.rand(3, device=model.device), expected)


class TestCheckpoint:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("trained")
        seed_everything(0)
        model = make_model()
        fit(model, folder, val_films=Films(n_sick=4), callbacks=[ModelCheckpoint(folder, "model")])
        return model.eval(), folder / "model.ckpt"

    def test_a_loaded_model_scores_alike(self, trained):
        model, file = trained
        loaded = RoiSureGanomaly.load_from_checkpoint(file).eval()
        images = torch.rand(3, 3, 50, 40, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for name, value in model(images)._asdict().items():
                assert torch.equal(getattr(loaded(images), name), value), name
        assert isinstance(loaded.pre_processor, RoiPreProcessor)
        assert not loaded.post_processor.enable_threshold_matching

    @pytest.mark.parametrize(
        ("settings", "found", "built"),
        [
            ({"network__latent_dim": 7}, "network.latent_dim = 5", "network.latent_dim = 7"),
            (
                {"network__n_features": 8, "image_size": 64},
                "image_size = 32, network.n_features = 4",
                "image_size = 64, network.n_features = 8",
            ),
            ({"target": "image"}, "target = 'lungs'", "target = 'image'"),
        ],
    )
    def test_another_architecture_is_refused(self, trained, tmp_path, settings, found, built):
        message = rf"a checkpoint with {found}\n.*built with: {built}\n"
        with pytest.raises(SettingError, match=message):
            fit(make_model(**settings), tmp_path, epochs=2, ckpt_path=trained[1])
        with pytest.raises(SettingError, match=message):
            RoiSureGanomaly.load_from_checkpoint(trained[1], **make_model(**settings).hparams)

    def test_another_kind_of_model_is_refused(self, trained, tmp_path):
        checkpoint = torch.load(trained[1], weights_only=True)
        del checkpoint["architecture"]
        checkpoint["hyper_parameters"] = {"batch_size": 32}
        torch.save(checkpoint, tmp_path / "other.ckpt")
        with pytest.raises(SettingError, match="a checkpoint with image_size = 'absent'"):
            make_trainer(tmp_path).predict(make_model(), loader(Films()), ckpt_path=tmp_path / "other.ckpt")

    def test_training_may_go_on_with_other_settings_of_training(self, trained, tmp_path):
        trainer = fit(make_model(optimizer__lr=1e-5, reconstruction="l2"), tmp_path, epochs=2, ckpt_path=trained[1])
        assert trainer.current_epoch == 2


class TestMaps:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("maps")
        seed_everything(0)
        model = make_model()
        fit(model, folder, epochs=2, val_films=Films(12, n_sick=4), callbacks=[ModelCheckpoint(folder, "model")])
        return model.eval(), folder / "model.ckpt"

    def test_the_usual_map_is_that_of_healthy_validation_images(self, trained):
        model, _ = trained
        films = [film.image for film in Films(12, n_sick=4)]
        with torch.no_grad():
            healthy = model.model.score_with_residuals(2 * torch.stack(films[4:]) - 1)[1]
        torch.testing.assert_close(model.model.healthy_maps.mean, healthy.mean(dim=0, keepdim=True))

    def test_a_checkpoint_holds_it(self, trained):
        model, file = trained
        loaded = RoiSureGanomaly.load_from_checkpoint(file)
        assert loaded.model.healthy_maps.fitted
        assert torch.equal(loaded.model.healthy_maps.spread, model.model.healthy_maps.spread)

    def test_a_validation_by_itself_changes_nothing(self, trained, tmp_path):
        model, _ = trained
        before = model.model.healthy_maps.mean.clone()
        make_trainer(tmp_path).validate(model, loader(Films(6)), verbose=False)
        assert torch.equal(model.model.healthy_maps.mean, before)
        model.eval()

    def test_they_keep_their_scale_whatever_the_scores_are(self, trained, tmp_path):
        model, _ = trained
        model.post_processor._image_threshold.fill_(100.0)  # a distance of codes can be of any size
        films = Films()
        predicted = make_trainer(tmp_path).predict(model.eval(), loader(films))
        with torch.no_grad():
            expected = model.eval().model(2 * torch.stack([film.image for film in films]) - 1).anomaly_map
        torch.testing.assert_close(torch.cat([batch.anomaly_map for batch in predicted]), expected.squeeze(1))


class TestLogging:
    @pytest.mark.parametrize("reconstruction", ["sure", "l2"])
    def test_every_term_by_name(self, tmp_path, reconstruction):
        logged = fit(make_model(reconstruction=reconstruction), tmp_path).callback_metrics
        expected = {"l_adv", "l_enc", "l_rec", "l_gen", "l_dc", "share_adv", "share_enc", "share_rec"} | (
            {"divergence"} if reconstruction == "sure" else set()
        )
        assert logged.keys() == expected
        total = logged["l_adv"] + logged["l_enc"] + 50 * logged["l_rec"]
        torch.testing.assert_close(logged["l_gen"], total, rtol=1e-5, atol=1e-5)
        shares = torch.stack([logged[name] for name in ("share_adv", "share_enc", "share_rec")])
        torch.testing.assert_close(shares.sum(), torch.tensor(1.0))

    def test_the_reading_of_the_norm_moves_the_shares(self, tmp_path):
        euclidean, squared = (
            fit(make_model(reconstruction="l2", distance=distance), tmp_path / distance).callback_metrics["share_rec"]
            for distance in ("euclidean", "mean_squared")
        )
        assert euclidean < 0.8 * squared

    def test_auroc_of_validation(self, tmp_path):
        logged = fit(make_model(), tmp_path, val_films=Films(n_sick=4)).callback_metrics
        assert 0 <= logged["val_image_AUROC"] <= 1


def test_arguments_of_the_trainer():
    assert make_model().trainer_arguments == {"gradient_clip_val": 0, "num_sanity_val_steps": 0}
    assert make_model().learning_type == "one_class"


class TestPostProcessing:
    def test_scores_are_normalized_by_validation(self, tmp_path):
        torch.manual_seed(0)
        model = make_model()
        trainer = fit(model, tmp_path, val_films=Films(n_sick=4))
        scores = model.eval().model(2 * Films().images - 1).pred_score.detach()
        torch.testing.assert_close(model.post_processor.image_min, scores.min())
        torch.testing.assert_close(model.post_processor.image_max, scores.max())
        predicted = torch.cat([batch.pred_score for batch in trainer.predict(model, loader(Films()))])
        assert torch.equal(predicted.argsort(), scores.argsort())
        assert predicted.min() >= 0
        assert predicted.max() <= 1

    def test_ones_own_is_taken(self):
        mine = PostProcessor(image_sensitivity=0.7)
        assert make_model(post_processor=mine).post_processor is mine
