"""A LungAtlas that is trained once, in seconds, on tiny films."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer

from anomalib_cxr import LungAtlas
from anomalib_cxr.segmentation.network import LungSegmenter, save_segmenter
from anomalib_cxr.segmentation.training import fit_segmenter

from ..xrays import LUNGS, Films

N_HEALTHY = 64


@pytest.fixture(scope="session")
def lung_segmenter(tmp_path_factory):
    """The path of a segmenter that knows the films."""
    path = tmp_path_factory.mktemp("segmenter") / "segmenter.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        segmenter = LungSegmenter(32, (4, 4, 8, 8, 16))
    lungs = LUNGS.bool().expand(8, 1, -1, -1)
    fit_segmenter(segmenter, 2 * Films().images[:, :1] - 1, lungs, steps=80, batch_size=8, seed=0)
    save_segmenter(segmenter, path)
    return str(path)


@pytest.fixture(scope="session")
def make_atlas(lung_segmenter):
    """Make an atlas of a size that is fitted in seconds."""
    tiny = {"n_folds": 2, "n_bank": 8, "n_components": 5, "n_textures": 5, "seed": 0}

    def make(**settings):
        return LungAtlas(**{**tiny, "segmenter": lung_segmenter, "visualizer": False, **settings})

    return make


@pytest.fixture(scope="session")
def trained(make_atlas, loader, tmp_path_factory):
    """The trainer of an atlas that has learned from healthy films, validated, and written its checkpoint."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=1, num_sanity_val_steps=0, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path_factory.mktemp("trained"),
    )  # fmt: skip
    trainer.fit(make_atlas(), loader(Films(N_HEALTHY)), loader(Films(8, n_sick=4)))
    torch.set_num_threads(threads)
    return trainer
