"""Each of anomalib's models trains an epoch and scores with features from a file, and never asks for a network."""

from __future__ import annotations

import pytest
import timm
import torch
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_cxr.data.datamodules.base import RoiDataModule
from anomalib_cxr.models import baselines
from anomalib_cxr.models.baselines.weights import read_state_dict

pytestmark = pytest.mark.slow

DINOV2, WITH_REGISTERS = "vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2"
RUNS = {  # class: network as timm names it, side of the images, further settings
    "Patchcore": ("test_resnet", 64, {"backbone": "test_resnet", "layers": ["layer2", "layer3"]}),
    "MHPatchcore": ("test_resnet", 64, {"backbone": "test_resnet", "layers": ["layer2", "layer3"]}),
    "Padim": ("test_resnet", 64, {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "n_features": 10}),
    "Dinomaly": (WITH_REGISTERS, 28, {"encoder_name": WITH_REGISTERS}),
    "InpFormer": (WITH_REGISTERS, 28, {"encoder_name": WITH_REGISTERS}),
    "AnomalyDINO": (DINOV2, 28, {"encoder_name": "vit_small_patch14_dinov2"}),
    "FoundAD": (DINOV2, 28, {"encoder_name": "dinov2_vit_small_14", "image_size": 28}),
    "Rad": ("test_vit", 32, {"backbone": "test_vit", "layers": [1, 3], "k_image": 2}),
    "SuperADD": ("test_vit", 160, {"backbone": "test_vit", "layers": [1, 3], "patch_size": 160}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the files of random weights, by the name of the network; each written when it is first wanted."""
    folder = tmp_path_factory.mktemp("weights")

    def written(name):
        path = folder / f"{name}.pt"
        if not path.exists():
            torch.manual_seed(3)
            torch.save(timm.create_model(name).state_dict(), path)
        return path

    return written


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Let each attempt to reach the hub fail."""
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: pytest.fail("a download"))


@pytest.mark.parametrize("name", RUNS)
def test_an_epoch_and_scores(name, files, phantom_root, tmp_path):
    network, side, settings = RUNS[name]
    path = files(network)
    transform = Compose([Resize((side, side), antialias=True), Normalize([0.5] * 3, [0.5] * 3)])
    model = getattr(baselines, name)(
        weights=str(path), pre_processor=PreProcessor(transform), visualizer=False, evaluator=False, **settings
    )
    saved = {value.shape: value for value in read_state_dict(str(path)).values() if value.dim() > 1}
    held = [value for value in model.state_dict().values() if value.shape in saved]
    assert any(torch.equal(value, saved[value.shape]) for value in held)
    engine = Engine(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path,
        enable_progress_bar=False, num_sanity_val_steps=0,
    )  # fmt: skip
    datamodule = RoiDataModule(phantom_root, train_batch_size=2, eval_batch_size=2)
    engine.fit(model, datamodule=datamodule)
    scored = engine.predict(model, dataloaders=datamodule.test_dataloader(), return_predictions=True)
    scores = torch.cat([batch.pred_score.flatten() for batch in scored])
    assert len(scores) == len(datamodule.test_data)
    assert torch.isfinite(scores).all()


class TestAlignedLungs:
    def test_the_lungs_fill_the_frame(self, phantom_root):
        datamodule = RoiDataModule(phantom_root, train_batch_size=2)
        datamodule.setup("fit")
        batch = next(iter(datamodule.train_dataloader()))
        aligned = baselines.AlignedLungs(64, mean=(0.0,) * 3, std=(1.0,) * 3)
        frames = aligned(batch.image)
        assert frames.shape == (2, 3, 64, 64)
        assert frames.min() >= 0
        assert frames.max() <= 1
        probability = aligned.segmenter(2 * frames.mean(dim=1, keepdim=True) - 1)
        rows = (probability > 0.5).any(dim=3).squeeze(1).float().mean(dim=1)  # share of the rows with some lung
        assert (rows > 0.7).all()

    def test_images_and_masks_of_lesions_go_together(self, phantom_root):
        datamodule = RoiDataModule(phantom_root, eval_batch_size=40)
        datamodule.setup("fit")
        batch = next(iter(datamodule.test_dataloader()))
        aligned = baselines.AlignedLungs(64)
        sick = batch.gt_label.bool()
        painted = batch.image.clone()
        painted[batch.gt_mask.reshape(len(painted), 1, *painted.shape[-2:]).expand_as(painted) > 0] += 1.0
        difference = (aligned(painted) - aligned(batch.image)).abs().mean(dim=1)
        aligned._prepare(batch)  # as the trainer's hooks do
        assert batch.gt_mask.shape == (len(painted), 64, 64)
        inside, outside = difference[batch.gt_mask & sick.reshape(-1, 1, 1)], difference[~sick]
        assert inside.mean() > 10 * outside.mean()

    def test_another_frame_in_a_checkpoint_is_refused(self):
        with pytest.raises(baselines.lung_pre_processor.SettingError, match="a checkpoint whose pre-processing is"):
            baselines.AlignedLungs(64).load_checkpoint_config(baselines.AlignedLungs(32).checkpoint_config())
