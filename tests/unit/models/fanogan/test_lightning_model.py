"""Both phases of training on tiny images, against plain trainings written out here."""

from __future__ import annotations

import logging
import re
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from anomalib_cxr import Fanogan
from anomalib_cxr.errors import DivergenceError, SettingError
from anomalib_cxr.models.base import module
from anomalib_cxr.models.fanogan import lightning_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*You defined a `validation_step` but have no `val_dataloader`"),
]
# Biases that a later batch normalization, or the difference of the critic's values, takes away again.
HAS_NO_EFFECT = re.compile(
    r"generator.*(shortcut|residual.5).bias|features.layers.3.(shortcut.1|residual.5).bias|head.bias"
)
GENERATOR, CRITIC, ENCODER = ("model.generator.",), ("model.features.", "critic_head."), ("model.encoder.",)


def make_model(**settings):
    tiny = {"image_size": 32, "n_features": 4, "latent_dim": 5, "gan_epochs": 1, "visualizer": False}
    return Fanogan(**{**tiny, **settings})


def gray_in_double(images):
    """Return gray images for a training at `64-true`, where batches of anomalib stay in single precision."""
    return images.mean(dim=1, keepdim=True).double()


def prepared(model, images):
    """Return the input of the networks, to the last bit."""
    return gray_in_double(model.pre_processor.transform(images.images))


def state_of(model, *parts):
    """Copy weights and running statistics, of some parts or of all networks."""
    parts = parts or (*GENERATOR, *CRITIC, *ENCODER)
    return {name: value.detach().clone() for name, value in model.state_dict().items() if name.startswith(parts)}


def changed(before, after):
    return {name for name, value in before.items() if not torch.equal(after[name], value)}


class Watch(Callback):
    """Keeps the state at the start of each epoch, what it logged, and modes and gradients at each batch's end."""

    def __init__(self):
        self.states, self.terms, self.modes, self.gradients = [], [], [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.states.append(state_of(pl_module))

    def on_train_epoch_end(self, trainer, pl_module):
        self.terms.append({name: value.item() for name, value in trainer.callback_metrics.items()})

    def on_train_batch_end(self, trainer, pl_module, *_):
        networks = {**dict(pl_module.model.named_children()), "head": pl_module.critic_head}
        self.modes.append({name: {m.training for m in network.modules()} for name, network in networks.items()})
        self.gradients.append({name for name, weight in pl_module.named_parameters() if weight.grad is not None})


def plain_gan_batch(model, real, n_critic, w_gp):
    """Take the steps of one batch as the paper writes them; return the loss terms."""
    model = model.train()
    generator, critic = model.model.generator, lambda x: model.critic_head(model.model.features(x))[:, 0]
    critic_weights = [*model.model.features.parameters(), *model.critic_head.parameters()]
    adam_g, adam_c = (
        torch.optim.Adam(weights, lr=1e-4, betas=(0.0, 0.9)) for weights in (generator.parameters(), critic_weights)
    )
    for _ in range(n_critic):
        fake = deepcopy(generator)(torch.randn(len(real), 5, dtype=real.dtype)).detach()
        share = torch.rand(len(real), 1, 1, 1, dtype=real.dtype)
        between = (share * real + (1 - share) * fake).requires_grad_()
        slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
        l_gp = (((slope**2).sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
        gap = critic(real).mean() - critic(fake).mean()
        adam_c.zero_grad()
        (w_gp * l_gp - gap).backward()
        adam_c.step()
    l_gen = -critic(generator(torch.randn(len(real), 5, dtype=real.dtype))).mean()
    adam_g.zero_grad()
    l_gen.backward()
    adam_g.step()
    return {"gap": gap, "l_gp": l_gp, "l_critic": w_gp * l_gp - gap, "l_gen": l_gen}


def plain_encoder_batch(model, x, kappa):
    generator, features, encoder = deepcopy(model.model.generator).eval(), model.model.features, model.model.encoder
    generated = generator(encoder(x))
    l_image = ((x - generated) ** 2).mean()
    l_features = ((features(x) - features(generated)) ** 2).mean()
    (l_image + kappa * l_features).backward()
    with torch.no_grad():
        for weight in encoder.parameters():  # tf.train.RMSPropOptimizer: decay 0.9, squares start at 1, epsilon 1e-10
            squares = 0.9 + 0.1 * weight.grad**2
            weight.sub_(5e-5 * weight.grad / (squares + 1e-10).sqrt())
    return {"l_image": l_image, "l_features": l_features, "l_enc": l_image + kappa * l_features}


def assert_terms(logged, expected):
    for name, value in expected.items():
        assert logged[name] == pytest.approx(value.item(), rel=1e-5), name


class TestGanPhase:
    @pytest.mark.parametrize(("n_critic", "w_gp"), [(1, 10.0), (3, 2.0)])
    def test_a_batch_is_the_papers(self, fit, xrays, assert_same, monkeypatch, n_critic, w_gp):
        model = make_model(n_critic=n_critic, w_gp=w_gp)
        oracle = deepcopy(model)
        torch.manual_seed(7)
        watch = Watch()
        monkeypatch.setattr(lightning_model, "to_gray", gray_in_double)
        monkeypatch.setattr(module, "check_precision", lambda _: None)
        fit(model, 2, xrays(4), callbacks=[watch], precision="64-true")

        torch.manual_seed(7)
        torch.empty((), dtype=torch.int64).random_()  # the loader's seed
        terms = plain_gan_batch(oracle.double(), prepared(model, xrays(4)), n_critic, w_gp)
        assert_terms(watch.terms[0], terms)
        assert_same(watch.states[1], state_of(oracle), rtol=1e-6, atol=1e-9)

    def test_steps_and_running_statistics(self, fit):
        """In each batch `n_critic` steps of the critic, then one of the generator, which alone is remembered."""
        steps = []

        class Watched(Fanogan):
            def configure_optimizers(self):
                optimizers = super().configure_optimizers()
                for name, optimizer in zip(("generator", "critic", "encoder"), optimizers, strict=True):
                    optimizer.register_step_post_hook(lambda *_, name=name: steps.append(name))
                return optimizers

        model = Watched(image_size=32, n_features=4, latent_dim=5, gan_epochs=1, n_critic=3, visualizer=False)
        fit(model, 2)
        assert steps == [*(["critic"] * 3 + ["generator"]) * 2, "encoder", "encoder"]
        counts = {int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}
        assert counts == {2}

    def test_only_generator_and_critic_learn(self, fit):
        watch = Watch()
        fit(make_model(), 2, callbacks=[watch])
        moved = changed(watch.states[0], watch.states[1])
        gan = {name for name in watch.states[0] if name.startswith((*GENERATOR, *CRITIC))}
        assert moved <= gan
        assert {name for name in gan if not HAS_NO_EFFECT.search(name)} <= moved
        assert watch.modes[0] == {"generator": {True}, "features": {True}, "head": {True}, "encoder": {False}}

    def test_a_generator_step_leaves_the_critic_without_gradients(self, fit, monkeypatch):
        left = []
        real_loss = lightning_model.generator_loss

        def spy(values):
            left.append([weight.requires_grad for weight in model.critic_head.parameters()])
            return real_loss(values)

        monkeypatch.setattr(lightning_model, "generator_loss", spy)
        model = make_model()
        fit(model, 2, limit_train_batches=1)
        assert left == [[False, False]]

    def test_the_penalty_stays_in_float32_under_mixed_precision(self, fit, monkeypatch):
        kinds = []
        real_penalty = lightning_model.gradient_penalty
        monkeypatch.setattr(
            lightning_model,
            "gradient_penalty",
            lambda critic, *images: kinds.append(critic(images[0]).dtype) or real_penalty(critic, *images),
        )
        fit(make_model(n_critic=2), 2, precision="bf16-mixed", limit_train_batches=1)
        assert kinds == [torch.float32] * 2


class TestEncoderPhase:
    @pytest.mark.parametrize("kappa", [1.0, 0.3])
    def test_a_batch_is_the_papers(self, fit, xrays, assert_same, monkeypatch, kappa):
        model, watch = make_model(kappa=kappa), Watch()
        monkeypatch.setattr(lightning_model, "to_gray", gray_in_double)
        monkeypatch.setattr(module, "check_precision", lambda _: None)
        fit(model, 2, xrays(4), callbacks=[watch], precision="64-true")
        oracle = make_model(kappa=kappa).double()
        oracle.load_state_dict(model.state_dict() | watch.states[1])
        assert_terms(watch.terms[1], plain_encoder_batch(oracle, prepared(model, xrays(4)), kappa))
        assert_same(state_of(model), state_of(oracle), rtol=1e-6, atol=1e-9)

    def test_generator_and_critic_stay_frozen(self, fit, xrays):
        """Weights and running statistics, also through validations, which change modes and change them back."""
        model, watch = make_model(), Watch()
        fit(model, 4, val=xrays(n_sick=4), callbacks=[watch], val_check_interval=1)
        assert changed(watch.states[1], state_of(model)) == {
            name for name in watch.states[0] if name.startswith(ENCODER)
        }
        assert watch.modes[2:] == 6 * [{"generator": {False}, "features": {False}, "head": {False}, "encoder": {True}}]
        encoder = {name for name, _ in model.named_parameters() if name.startswith(ENCODER)}
        assert watch.gradients[2:] == 6 * [encoder]

    def test_it_is_announced(self, fit, caplog):
        with caplog.at_level(logging.INFO, "anomalib_cxr"):
            fit(make_model(gan_epochs=2), 4, limit_train_batches=1)
        assert [record.message for record in caplog.records if "frozen" in record.message] == [
            "Epoch 2: generator and critic are frozen, the encoder learns."
        ]


def test_settings_of_the_optimizers():
    model = make_model(lr=0.01, betas=(0.1, 0.2), lr_encoder=0.03)
    generator, critic, encoder = model.configure_optimizers()
    for optimizer in (generator, critic):
        assert isinstance(optimizer, torch.optim.Adam)
        assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (0.01, (0.1, 0.2))
    assert (encoder.defaults["lr"], encoder.defaults["alpha"], encoder.defaults["eps"]) == (0.03, 0.9, 1e-10)
    held = [
        {id(weight) for weight in optimizer.param_groups[0]["params"]} for optimizer in (generator, critic, encoder)
    ]
    for ids, parts in zip(held, (GENERATOR, CRITIC, ENCODER), strict=True):
        assert ids == {id(weight) for name, weight in model.named_parameters() if name.startswith(parts)}


class TestEpochs:
    @pytest.mark.parametrize("epochs", [1, 2, 3])
    def test_a_training_that_leaves_the_encoder_none_is_refused(self, fit, epochs):
        model = make_model(gan_epochs=3)
        before = state_of(model)
        with pytest.raises(SettingError, match=rf"trainer.max_epochs = {epochs} and gan_epochs = 3\n.*more epochs"):
            fit(model, epochs)
        assert changed(before, state_of(model)) == set()

    def test_a_training_by_steps_alone_is_not(self, fit):
        model = make_model(n_critic=1)
        assert fit(model, -1, max_steps=6).current_epoch == 2  # two batches of critic and generator, two of the encoder

    def test_no_epoch_of_the_gan_is_to_be_chosen_by_its_scores(self):
        assert make_model(gan_epochs=7).first_scoring_epoch == 7

    def test_terms_of_each_phase_are_logged_in_its_epochs(self, fit):
        watch = Watch()
        fit(make_model(gan_epochs=2), 4, callbacks=[watch])
        gan, encoder = {"gap", "l_gp", "l_critic", "l_gen"}, {"l_image", "l_features", "l_enc"}
        assert [terms.keys() for terms in watch.terms] == [gan, gan, encoder, encoder]


class TestDivergence:
    @pytest.mark.parametrize(
        ("broken", "found"),
        [
            ("wasserstein_gap", "gap = inf, l_critic = -inf in epoch 0"),
            ("gradient_penalty", "l_gp = inf, l_critic = inf in epoch 0"),
            ("generator_loss", "l_gen = inf in epoch 0"),
        ],
    )
    def test_names_the_broken_term(self, fit, monkeypatch, broken, found):
        monkeypatch.setattr(lightning_model, broken, lambda *_: torch.tensor(float("inf"), requires_grad=True))
        with pytest.raises(DivergenceError, match=rf"found: {found}, step 0 \(batch 0 of the epoch\)\n.*\n.*lower lr,"):
            fit(make_model(), 2)

    def test_in_the_encoders_epochs(self, fit, xrays, tmp_path):
        broken = xrays(broken_after=12)  # the second batch of the second epoch
        expected = r"l_image = nan, l_features = nan, l_enc = nan in epoch 1, step 3 \(batch 1 of the epoch\)"
        with pytest.raises(DivergenceError, match=expected):
            fit(make_model(), 3, broken, callbacks=[ModelCheckpoint(tmp_path, "model")])
        assert torch.load(tmp_path / "model.ckpt", weights_only=True)["epoch"] == 0


class TestReproducibility:
    def train(self, fit, xrays, folder, epochs, ckpt_path=None):
        seed_everything(0)
        model = make_model(gan_epochs=2)
        if ckpt_path:
            torch.rand(17)  # whatever a resumed process did before
        saved = ModelCheckpoint(folder, save_last=True)
        val = xrays(n_sick=4, augment=True)
        fit(model, epochs, xrays(augment=True), val=val, ckpt_path=ckpt_path, shuffle=True, callbacks=[saved])
        return model, torch.load(folder / "last.ckpt", weights_only=True)

    @pytest.fixture(scope="class")
    def unbroken(self):
        """Filled by the first test that asks for it: fixtures of a wider scope cannot use `fit`."""
        return {}

    @pytest.mark.parametrize("stop", [1, 2, 3])
    def test_resumed_in_any_phase_equals_straight(self, fit, xrays, tmp_path, assert_same, unbroken, monkeypatch, stop):
        if not unbroken:
            unbroken["model"], unbroken["checkpoint"] = self.train(fit, xrays, tmp_path / "unbroken", 4)
        with monkeypatch.context() as patch:
            patch.setattr(Fanogan, "on_fit_start", super(Fanogan, Fanogan).on_fit_start)  # stopped: no choice of epochs
            self.train(fit, xrays, tmp_path / "broken", stop)
        resumed, checkpoint = self.train(fit, xrays, tmp_path / "on", 4, tmp_path / "broken" / "last.ckpt")
        assert_same(resumed.state_dict(), unbroken["model"].state_dict())
        assert_same(checkpoint["rng_states"], unbroken["checkpoint"]["rng_states"])
        for found, expected in zip(
            checkpoint["optimizer_states"], unbroken["checkpoint"]["optimizer_states"], strict=True
        ):
            assert found["state"].keys() == expected["state"].keys() != set()
            for weight, moments in expected["state"].items():
                assert_same(found["state"][weight], moments)

    def test_same_seed_same_weights(self, fit, xrays, assert_same):
        trained = []
        for seed in (1, 1, 2):
            model = make_model(seed=seed)
            fit(model, 2, shuffle=True)
            trained.append(state_of(model))
        assert_same(trained[0], trained[1])
        assert not torch.equal(*(state["model.encoder.head.weight"] for state in trained[1:]))


class TestSeveralProcesses:
    def codes(self, rank):
        model = make_model()
        model._trainer = SimpleNamespace(world_size=2, global_rank=rank)
        torch.manual_seed(0)
        return model._draw_codes(500), torch.rand(1)

    def test_each_draws_its_own_codes_and_keeps_in_step_with_the_others(self):
        (first, after), (second, after_too) = self.codes(0), self.codes(1)
        assert first.shape == second.shape == (500, 5)
        assert not torch.isclose(first, second).any()
        assert first.mean().item() == pytest.approx(0, abs=0.1)
        assert first.std().item() == pytest.approx(1, abs=0.1)
        assert torch.equal(after, after_too)


class TestCheckpoint:
    @pytest.fixture
    def trained(self, fit, tmp_path):
        seed_everything(0)
        model = make_model()
        fit(model, 2, callbacks=[ModelCheckpoint(tmp_path, "model")])
        return model.eval(), tmp_path / "model.ckpt"

    def test_a_loaded_model_scores_alike(self, trained):
        model, file = trained
        loaded = Fanogan.load_from_checkpoint(file).eval()
        images = torch.rand(3, 3, 50, 40, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for name, value in model(images)._asdict().items():
                assert torch.equal(getattr(loaded(images), name), value), name

    def test_another_architecture_is_refused(self, trained, fit):
        message = r"a checkpoint with latent_dim = 5, kappa = 1.0\n.*built with: latent_dim = 7, kappa = 2.0\n"
        with pytest.raises(SettingError, match=message):
            fit(make_model(latent_dim=7, kappa=2.0), 3, ckpt_path=trained[1])
        with pytest.raises(SettingError, match=message):
            Fanogan.load_from_checkpoint(trained[1], latent_dim=7, kappa=2.0)

    def test_broken_weights_are_not_saved(self, trained):
        model, file = trained
        before = file.read_bytes()
        with torch.no_grad():
            model.critic_head.weight[0, 0] = float("nan")
        with pytest.raises(DivergenceError, match=r"not finite after epoch 2: critic_head\.weight\n"):
            model.trainer.save_checkpoint(file)
        assert file.read_bytes() == before


def test_validation_measures_auroc_in_both_phases(fit, xrays):
    class Measured(Callback):
        def on_validation_end(self, trainer, pl_module):
            values.append(trainer.callback_metrics["val_image_AUROC"].item())

    values = []
    fit(make_model(), 3, val=xrays(n_sick=4), callbacks=[Measured()])
    assert len(values) == 3
    assert all(0 <= value <= 1 for value in values)
