"""Training images that a model remembers, by the content of their files."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pandas as pd
import pytest

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.data.reading.file_hashes import KnownImages
from anomalib_cxr.models.base.training_images import remember_training_images


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    return paths


def trainer(paths, *, first=True):
    data = SimpleNamespace(samples=pd.DataFrame({"image_path": list(map(str, paths))}))
    return SimpleNamespace(datamodule=SimpleNamespace(train_data=data), is_global_zero=first)


def test_each_file_by_its_content(files):
    found = remember_training_images(trainer(files), KnownImages())
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() in found for path in files)
    assert len(found) == 3


def test_a_resumed_training_remembers_the_former_images(files):
    former = remember_training_images(trainer(files[:1]), KnownImages())
    assert remember_training_images(trainer(files[1:]), former) == remember_training_images(
        trainer(files), KnownImages()
    )


@pytest.mark.parametrize("unknown", [SimpleNamespace(datamodule=None), SimpleNamespace(datamodule=SimpleNamespace())])
def test_data_that_state_none(unknown):
    known = KnownImages.of(["00" * 32])
    assert remember_training_images(unknown, known) == known


def test_other_processes_read_nothing(tmp_path):
    assert len(remember_training_images(trainer([tmp_path / "missing"], first=False), KnownImages())) == 0


def test_checkpoints_keep_them():
    tiny = {"image_size": 32, "network": {"n_features": 4, "latent_dim": 5}, "visualizer": False}
    first, second = RoiSureGanomaly(**tiny), RoiSureGanomaly(**tiny)
    first.training_images = KnownImages.of(["ab" * 32])
    checkpoint = {"state_dict": first.state_dict()}
    first.on_save_checkpoint(checkpoint)
    second.on_load_checkpoint(checkpoint)
    assert second.training_images == first.training_images
    del checkpoint["training_images"]  # of a former version
    second.on_load_checkpoint(checkpoint)
    assert second.training_images == KnownImages()
