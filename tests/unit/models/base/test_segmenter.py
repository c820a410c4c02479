"""The segmenter is frozen, ready before the first epoch, kept in the checkpoint, and determines the input."""

from __future__ import annotations

import logging

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.errors import SegmenterError, SettingError
from anomalib_cxr.models.base import segmenter as inner
from anomalib_cxr.models.base.segmenter import FrozenSegmenter
from anomalib_cxr.segmentation.network import LungSegmenter, save_segmenter
from anomalib_cxr.segmentation.packaged import load_packaged_segmenter
from anomalib_cxr.segmentation.training import fit_segmenter

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*You defined a `validation_step` but have no `val_dataloader`"),
]
OTHER_SHAPE = {"image_size": 48, "widths": (2, 2, 4, 4, 4)}


def segmenter_of(model):
    return {name: value.clone() for name, value in model.model.segmenter.network.state_dict().items()}


@pytest.fixture
def first(make_tiny):
    """Make a model that sees the cut-out lungs only."""

    def make(**settings):
        return make_tiny(**{"lungs__input_region": "lungs", "target": "image", "reconstruction": "l1", **settings})

    return make


@pytest.fixture
def written(tmp_path):
    """A file with a segmenter of another shape than a model makes."""
    torch.manual_seed(5)
    segmenter = LungSegmenter(**OTHER_SHAPE)
    save_segmenter(segmenter, tmp_path / "segmenter.pt")
    return segmenter, str(tmp_path / "segmenter.pt")


class Epochs(Callback):
    """Keeps the segmenter as it is in each epoch."""

    def __init__(self):
        self.kept = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.kept.append(segmenter_of(pl_module))


class Brighter(LungSegmenter):
    """Calls lung what is brighter than mid gray."""

    def __init__(self):
        super().__init__(32, widths=(4, 4, 4, 4, 4))

    def forward(self, gray):
        return (gray + 1) / 2


class TestFrozenSegmenter:
    def test_gives_the_probability(self):
        segmenter = FrozenSegmenter(32)
        segmenter.replace_network(Brighter())
        assert torch.equal(segmenter(torch.tensor([[[[-1.0, 0.5]]]])), torch.tensor([[[[0.0, 0.75]]]]))

    def test_is_frozen_and_stays_set_to_inference(self):
        segmenter = FrozenSegmenter(32)
        segmenter.replace_network(Brighter().train())
        torch.nn.Sequential(segmenter).train()
        assert not any(module.training for module in segmenter.modules())
        assert not any(weight.requires_grad for weight in segmenter.parameters())

    def test_begins_untrained_at_a_size_of_its_own(self):
        segmenter = FrozenSegmenter(64)
        assert segmenter.network.image_size == 64
        assert segmenter(torch.zeros(2, 1, 40, 48)).shape == (2, 1, 40, 48)
        assert not segmenter.state_dict()["trained"]


class TestWithoutAPath:
    def test_it_is_trained_once_before_the_first_epoch(self, fit, first, films, assert_same):
        model, epochs = first(seed=0), Epochs()
        before = segmenter_of(model)
        fit(model, 2, films(), callbacks=[epochs])
        assert any(not torch.equal(value, before[name]) for name, value in epochs.kept[0].items())
        assert_same(epochs.kept[1], epochs.kept[0])
        assert_same(segmenter_of(model), epochs.kept[0])

    def test_it_learns_from_the_training_images_and_their_lungs(self, fit, first, films, lungs, assert_same):
        model = first(seed=3, lungs__segmenter_steps=4)
        oracle = LungSegmenter(**model.model.segmenter.network.settings)
        oracle.load_state_dict(segmenter_of(model))
        images = 2 * films().images[:, :1] - 1
        fit_segmenter(oracle, images.half(), lungs.bool().expand(8, 1, -1, -1), steps=4, seed=3)
        fit(model, 1, films())
        assert_same(segmenter_of(model), oracle.state_dict(), rtol=0.02, atol=1e-3)

    def test_it_finds_lungs(self, fit, first, films, lungs):
        model = first(seed=0, lungs__segmenter_steps=40)
        fit(model, 1, films())
        image, region, *_ = model.model.preprocess(2 * films().images - 1)
        assert (region[:, 0] == lungs).float().mean() > 0.95
        assert torch.equal(image == -1, region == 0)

    def test_no_more_images_than_needed_are_kept(self, fit, first, films, monkeypatch):
        seen = []
        monkeypatch.setattr(inner, "MOST_IMAGES", 4)
        monkeypatch.setattr(inner, "fit_segmenter", lambda _, images, masks, **__: seen.append((images, masks)))
        fit(first(), 1, films())
        ((images, masks),) = seen
        assert images.shape == masks.shape == (4, 1, 32, 32)

    @pytest.mark.parametrize("seed", [0, None])
    def test_same_seed_same_segmenter_and_networks(self, fit, first, films, assert_same, seed):
        states = []
        for around in (1, 1, 2):
            seed_everything(around)
            model = first(seed=seed)
            fit(model, 1, films(), shuffle=True)
            states.append(model.state_dict())
        assert_same(states[0], states[1])
        same = [torch.equal(states[2][name], value) for name, value in states[0].items() if "segmenter" in name]
        assert all(same) == (seed is not None)

    def test_without_lung_masks_it_is_that_of_the_package(self, fit, first, films, assert_same, caplog):
        model = first()
        with caplog.at_level(logging.INFO, "anomalib_cxr"):
            fit(model, 1, films(masks=False))
        assert_same(segmenter_of(model), load_packaged_segmenter().state_dict())
        assert sum("the one of the package is used" in line for line in caplog.messages) == 1


class TestWithAPath:
    def test_it_is_read_and_needs_no_lung_masks(self, fit, first, films, written, assert_same):
        segmenter, path = written
        model = first(lungs__segmenter=path)
        fit(model, 1, films(masks=False))
        assert_same(segmenter_of(model), segmenter.state_dict())

    def test_a_file_that_is_not_there_ends_the_training_before_it_begins(self, fit, first, films):
        with pytest.raises(SegmenterError, match=r"nowhere\.pt: cannot be read"):
            fit(first(lungs__segmenter="nowhere.pt"), 1, films())

    def test_a_path_needs_the_region(self, make_tiny):
        with pytest.raises(SettingError, match=r"segmenter = 'a\.pt'\n.*null, or a path where"):
            make_tiny(lungs__segmenter="a.pt")


class TestCheckpoint:
    def test_holds_a_segmenter_of_any_shape(self, fit, first, films, written, tmp_path, assert_same):
        segmenter, path = written
        model = first(lungs__segmenter=path)
        fit(model, 1, films(), callbacks=[ModelCheckpoint(tmp_path, "model")])
        (tmp_path / "segmenter.pt").unlink()  # as on another machine
        loaded = RoiSureGanomaly.load_from_checkpoint(tmp_path / "model.ckpt").eval()
        assert_same(segmenter_of(loaded), segmenter.state_dict())
        images = torch.rand(3, 3, 50, 40, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(loaded(images).pred_score, model.eval()(images).pred_score)

    def test_a_resumed_training_keeps_it(self, fit, first, films, tmp_path, monkeypatch, assert_same):
        model = first(seed=0)
        fit(model, 1, films(), callbacks=[ModelCheckpoint(tmp_path, "model")])
        monkeypatch.setattr(inner, "fit_segmenter", lambda *_, **__: pytest.fail("trained again"))
        resumed = first(seed=1)
        fit(resumed, 2, films(), ckpt_path=tmp_path / "model.ckpt")
        assert_same(segmenter_of(resumed), segmenter_of(model))

    def test_another_input_region_is_refused(self, fit, first, films, tmp_path):
        fit(first(), 1, films(), callbacks=[ModelCheckpoint(tmp_path, "model")])
        with pytest.raises(SettingError, match=r"a checkpoint with lungs\.input_region = 'lungs'"):
            RoiSureGanomaly.load_from_checkpoint(tmp_path / "model.ckpt", lungs={"input_region": "image"})


class TestTarget:
    @pytest.mark.parametrize("target", ["image", "lungs"])
    @pytest.mark.parametrize("input_region", ["image", "lungs"])
    def test_losses_count_in_the_input_region_and_target(
        self, fit, make_tiny, films, lungs, monkeypatch, input_region, target
    ):
        """Inputs of reconstruction loss and discriminator, for each combination."""
        upper = torch.zeros(32, 32)
        upper[:16] = 1
        model = make_tiny(lungs__input_region=input_region, target=target, seed=0)
        if input_region == "lungs":
            model.model.segmenter.trained.fill_(True)
            monkeypatch.setattr(model.model.segmenter, "forward", upper.expand_as)
        given, judged = [], []
        model.reconstruction_loss.register_forward_hook(lambda _, inputs, __: given.append(inputs))
        model.discriminators[0].register_forward_hook(lambda _, inputs, __: judged.append(inputs[0]))
        fit(model, 1, films(4))
        image, mask, *_ = given[0]

        gray = 2 * films(4).images[:, :1] - 1
        seen = upper if input_region == "lungs" else torch.ones(32, 32)
        wanted = seen * (lungs if target == "lungs" else 1)
        torch.testing.assert_close(image, torch.where(seen.bool(), gray, -1.0))
        if mask is None:
            assert (input_region, target) == ("image", "image")
        else:
            assert torch.equal(mask, wanted.expand_as(mask))
        torch.testing.assert_close(judged[0], torch.where(wanted.bool(), gray, -1.0))
