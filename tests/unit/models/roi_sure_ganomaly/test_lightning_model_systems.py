"""Each system under `configs/model/` in one training step, and what its choices add to the training."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.errors import SettingError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*You defined a `validation_step` but have no `val_dataloader`"),
]
CONFIGS = Path(__file__).resolve().parents[4] / "configs" / "model"
FILES = {file.stem: yaml.safe_load(file.read_text())["model"] for file in sorted(CONFIGS.glob("*.yaml"))}
SYSTEMS = {
    name: model["init_args"]
    for name, model in FILES.items()
    if model["class_path"] == "anomalib_cxr.RoiSureGanomaly" and "ensemble" not in model["init_args"]
}  # ensembles are tested in test_lightning_model_ensemble.py
GENERATOR, DISCRIMINATOR, SEGMENTER = ("model.ensemble.",), ("discriminators.",), ("model.segmenter.",)


class Watched(RoiSureGanomaly):
    """Keeps which optimizer took a step and which weights it changed."""

    def configure_optimizers(self):
        optimizers, self.steps = super().configure_optimizers(), []
        for name, optimizer in zip(("generator", "discriminator"), optimizers, strict=True):
            optimizer.register_step_pre_hook(lambda *_: setattr(self, "before", weights_of(self)))
            optimizer.register_step_post_hook(lambda *_, name=name: self.steps.append((name, self.changed())))
        return optimizers

    def changed(self):
        return {name for name, weight in self.named_parameters() if not torch.equal(weight, self.before[name])}


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def names_of(model, prefixes):
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def test_the_systems_are_there():
    assert set(SYSTEMS) == {
        "roi_sure_ganomaly", "roi_l2", "roi_pg_sure", "ganomaly", "ganomaly_original", "ganomaly_sure", "unet_wgan_gp",
        "lungs_first",
    }  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_step_changes_the_weights_of_its_optimizer_and_no_others(fit, films, system):
    network = {**SYSTEMS[system].get("network", {}), "n_features": 4, "latent_dim": 5}
    lungs = {**SYSTEMS[system].get("lungs", {}), "segmenter_steps": 2}
    model = Watched(**{**SYSTEMS[system], "image_size": 32, "network": network, "lungs": lungs, "visualizer": False})
    fit(model, 1, films(), limit_train_batches=1)
    ahead = SYSTEMS[system].get("adversary", {}).get("n_critic", 1) - 1
    assert [name for name, _ in model.steps] == ["discriminator"] * ahead + ["generator", "discriminator"]
    own = {"generator": names_of(model, GENERATOR), "discriminator": names_of(model, DISCRIMINATOR)}
    for name, changed in model.steps:
        assert changed == own[name]
    rest = names_of(model, "") - own["generator"] - own["discriminator"]
    assert rest == names_of(model, SEGMENTER)
    assert bool(rest) == (system == "lungs_first")


@pytest.mark.parametrize("reconstruction", ["sure", "pg_sure", "l2", "l1"])
def test_three_channels_learn_by_each_reconstruction(fit, make_tiny, films, reconstruction):
    model = make_tiny(Watched, reconstruction=reconstruction, network__n_channels=3, seed=0)
    fit(model, 1, films(), limit_train_batches=1)
    assert set.union(*(changed for _, changed in model.steps)) == names_of(model, "")


class TestWganGp:
    def test_is_the_plain_training(self, fit, make_tiny, films, assert_same):
        """Critic steps, then the generator's by the critic so far, then the critic's last one, at a single one."""
        torch.manual_seed(0)
        model = make_tiny(
            target="image", reconstruction="l1", adversary__scheme="wgan_gp", adversary__n_critic=3,
            adversary__gradient_penalty=7.0, weights__adversarial=2.0, weights__latent=3.0, weights__reconstruction=4.0,
        )  # fmt: skip
        oracle = deepcopy(model)
        torch.manual_seed(7)
        fit(model, 1, films(4))

        torch.manual_seed(7)
        torch.empty((), dtype=torch.int64).random_()  # the loader's seed
        gradients = plain_wgan_gp(oracle, 2 * films(4).images[:, :1] - 1)
        tolerance = {"rtol": 2e-3, "atol": 1e-5}
        assert_same({name: weight.grad for name, weight in model.named_parameters()}, gradients, **tolerance)
        assert_same(weights_of(model), weights_of(oracle), rtol=0, atol=1e-4)

    def test_judges_each_image_by_itself(self, make_tiny, films):
        critic = make_tiny(adversary__scheme="wgan_gp").discriminators[0].train()
        images = films().images[:, :1]
        torch.testing.assert_close(critic(images).logits[:1], critic(images[:1]).logits, rtol=1e-4, atol=1e-6)
        assert not any("running" in name for name, _ in critic.named_buffers())

    def test_is_never_started_again(self, fit, make_tiny, films, caplog):
        model = make_tiny(
            Watched, adversary__scheme="wgan_gp", adversary__gradient_penalty=0.0, adversary__n_critic=2, seed=0
        )  # a loss that falls without end
        trainer = fit(model, 3, films(), callbacks=[])
        assert trainer.callback_metrics["l_dc"] < 1e-5
        assert "starts again" not in caplog.text

    def test_critic_stays_in_float32_under_mixed_precision(self, fit, make_tiny, films):
        seen = []
        model = make_tiny(adversary__scheme="wgan_gp", target="image", reconstruction="l1", adversary__n_critic=2)
        model.discriminators[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].dtype))
        trainer = fit(model, 1, films(4), precision="bf16-mixed")
        assert seen == [torch.float32] * 7  # real, generated and between of both steps, and the generator's
        assert torch.isfinite(trainer.callback_metrics["l_dc"])


def plain_wgan_gp(model, image):
    """Train on one batch as the class says it does; return the gradients of the last steps."""
    networks, opponent = model.model.ensemble[0], model.discriminators[0]
    generator, critic = (torch.optim.Adam(part.parameters(), lr=2e-4, betas=(0.5, 0.999)) for part in (
        networks, opponent
    ))  # fmt: skip
    output = opponent.encoder
    model.train()
    z = networks.generator.encoder(image)
    reconstructed = networks.generator.decoder(z)
    z_hat = networks.encoder(reconstructed)

    def critic_loss():
        fake = reconstructed.detach()
        loss = output(fake).mean() - output(image).mean()
        share = torch.rand(len(image), 1, 1, 1)
        between = (share * image + (1 - share) * fake).requires_grad_()
        slopes = torch.autograd.grad(output(between).sum(), between, create_graph=True)[0]
        return loss + 7 * ((slopes.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()

    for _ in range(2):
        critic.zero_grad()
        critic_loss().backward()
        critic.step()
    l_enc = (z - z_hat).flatten(1).norm(dim=1).mean()
    l_rec = (reconstructed - image).abs().mean()
    (2 * -output(reconstructed).mean() + 3 * l_enc + 4 * l_rec).backward()
    gradients = {f"model.{name}": weight.grad.clone() for name, weight in model.model.named_parameters()}
    generator.step()
    critic.zero_grad()
    critic_loss().backward()
    critic.step()
    return gradients | {f"discriminators.0.{name}": weight.grad for name, weight in opponent.named_parameters()}


class TestInstanceNoise:
    def noise_seen(self, fit, model, films, epochs):
        """Return what the discriminator's input has more than the images, true and generated ones, by epoch."""
        generated, seen = [], []
        network = model.model.ensemble[0]
        network.generator.register_forward_hook(lambda *_: pytest.fail("reconstruct, not forward"))
        network.encoder.register_forward_hook(lambda _, inputs, __: generated.append(inputs[0].detach()))
        model.discriminators[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
        fit(model, epochs, films(4))
        image = 2 * films(4).images[:, :1] - 1
        assert len(seen) == 3 * epochs  # true; generated, for the discriminator and for the generator
        assert all(torch.equal(seen[3 * e + 1], seen[3 * e + 2]) for e in range(epochs))
        return [(seen[3 * e] - image, seen[3 * e + 1] - generated[e]) for e in range(epochs)]

    def test_falls_in_a_line_to_none_on_both_sides(self, fit, make_tiny, films):
        model = make_tiny(target="image", reconstruction="l1", adversary__instance_noise=0.4, seed=0)
        noise = self.noise_seen(fit, model, films, 3)
        for level, (real, generated) in zip((0.4, 0.2), noise, strict=False):
            for each in (real, generated):
                assert each.std().item() == pytest.approx(level, rel=0.05)  # of 4096 pixels
                assert abs(each.mean().item()) < 4 * level / 64
            assert abs((real * generated).mean()) < 4 * level**2 / 64
        assert max(each.abs().max() for each in noise[2]) < 1e-6

    def test_without_it_nothing_is_added_and_nothing_is_drawn(self, fit, make_tiny, films):
        model = make_tiny(target="image", reconstruction="l1", seed=0)
        state = []
        model.discriminators[0].register_forward_pre_hook(lambda *_: state.append(torch.get_rng_state()))
        (noise,) = self.noise_seen(fit, model, films, 1)
        assert max(each.abs().max() for each in noise) < 1e-6
        assert all(torch.equal(each, state[0]) for each in state)

    @pytest.mark.parametrize("epochs", [-1, None])
    def test_a_training_without_an_end_is_refused(self, fit, make_tiny, films, epochs):
        with pytest.raises(SettingError, match=r"instance_noise = 0\.1 and trainer\.max_epochs = -1"):
            fit(make_tiny(adversary__instance_noise=0.1), epochs, films(), max_steps=2)


class TestResuming:
    @pytest.fixture
    def train(self, fit, make_tiny, films):
        def run(folder, ckpt_path=None, *, last_epoch=3):
            seed_everything(0)
            model = make_tiny(
                adversary__scheme="wgan_gp", adversary__n_critic=2, adversary__instance_noise=0.3,
                network__generator="residual_unet", lungs__input_region="lungs", reconstruction="pg_sure",
                optimizer__lr=1e-3,
            )  # fmt: skip
            if ckpt_path:
                torch.rand(17)  # whatever a resumed process did before
            callbacks = [ModelCheckpoint(folder, save_last=True), StopAfter(last_epoch)]
            trainer = fit(model, 4, films(augment=True), shuffle=True, callbacks=callbacks, ckpt_path=ckpt_path)
            return model, trainer

        return run

    def test_gives_the_weights_of_an_unbroken_training(self, train, tmp_path, assert_same):
        unbroken, _ = train(tmp_path / "unbroken")
        train(tmp_path / "broken", last_epoch=1)
        assert torch.load(tmp_path / "broken" / "last.ckpt", weights_only=True)["epoch"] == 1
        resumed, trainer = train(tmp_path / "on", tmp_path / "broken" / "last.ckpt")
        assert trainer.current_epoch == 4
        assert_same(resumed.state_dict(), unbroken.state_dict())


class StopAfter(Callback):
    """Stops a training that was to go on for longer, so that its noise is that of the longer one."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch >= self.epoch
