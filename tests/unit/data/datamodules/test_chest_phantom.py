"""Phantoms as a data module: drawn on first use, kept afterwards, split like any other set."""

from __future__ import annotations

import pytest
from anomalib import TaskType
from anomalib.data import AnomalibDataModule
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_cxr import ChestPhantom
from anomalib_cxr.errors import DatasetError, SettingError

SMALL = {"n_normal": 10, "n_sick": 5, "size": 32}
TINY = {"n_normal": 2, "n_sick": 1, "size": 32}


class TestDrawing:
    def test_drawn_on_first_use_and_kept(self, tmp_path):
        root = tmp_path / "new" / "phantoms"
        ChestPhantom(root, **TINY).prepare_data()
        images = sorted((root / "CXR_png").iterdir())
        assert len(images) == 3
        drawn = [image.stat().st_mtime_ns for image in images]
        ChestPhantom(root, **TINY).prepare_data()
        assert [image.stat().st_mtime_ns for image in images] == drawn

    def test_nothing_is_drawn_at_construction(self, tmp_path):
        ChestPhantom(tmp_path / "phantoms", **TINY)
        assert not (tmp_path / "phantoms").exists()

    def test_the_seed_of_the_drawing_is_not_that_of_the_split(self, tmp_path):
        contents = []
        for name, seeds in {"a": {"seed": 1}, "b": {"seed": 2}, "c": {"phantom_seed": 1}}.items():
            ChestPhantom(tmp_path / name, **TINY, **seeds).prepare_data()
            contents.append((tmp_path / name / "CXR_png/PHANTOM_0000_0.png").read_bytes())
        assert contents[0] == contents[1] != contents[2]

    def test_other_settings_do_not_overwrite_what_is_there(self, tmp_path):
        ChestPhantom(tmp_path / "phantoms", **TINY).prepare_data()
        with pytest.raises(DatasetError, match="n_normal = 2, not 12"):
            ChestPhantom(tmp_path / "phantoms", **{**TINY, "n_normal": 12}).prepare_data()

    def test_other_files_are_left_alone(self, tmp_path):
        (tmp_path / "CXR_png").mkdir()
        with pytest.raises(DatasetError, match="something else than a set of phantoms"):
            ChestPhantom(tmp_path, **TINY).prepare_data()
        assert [path.name for path in tmp_path.iterdir()] == ["CXR_png"]

    def test_a_setting_outside_its_range(self, tmp_path):
        with pytest.raises(SettingError, match="size = 8"):
            ChestPhantom(tmp_path / "phantoms", size=8).prepare_data()


class TestSets:
    @pytest.fixture(scope="class")
    def datamodule(self, tmp_path_factory):
        root = tmp_path_factory.mktemp("phantoms") / "set"
        datamodule = ChestPhantom(root, **SMALL, train_batch_size=7)
        datamodule.prepare_data()
        datamodule.setup(TrainerFn.FITTING)
        return datamodule

    def test_split(self, datamodule):
        sets = (datamodule.train_data, datamodule.val_data, datamodule.test_data)
        assert [len(dataset) for dataset in sets] == [7, 2, 6]

    def test_lungs_and_lesions(self, datamodule):
        batch = next(iter(datamodule.test_dataloader()))
        assert datamodule.task == TaskType.SEGMENTATION
        assert batch.roi_mask.flatten(1).any(1).all()
        assert batch.gt_mask.flatten(1).any(1).tolist() == batch.gt_label.tolist()

    def test_too_few_for_a_split(self, tmp_path):
        datamodule = ChestPhantom(tmp_path / "phantoms", n_normal=2, n_sick=2, size=32)
        datamodule.prepare_data()
        with pytest.raises(DatasetError, match="phantom has 2 normal to train on and 2 sick, needed are 3 and 2"):
            datamodule.setup("fit")


def test_from_a_configuration(tmp_path):
    (tmp_path / "data.yaml").write_text("""
class_path: anomalib_cxr.ChestPhantom
init_args:
  n_normal: 12
  protocol: dissertation
  eval_batch_size: 5
""")
    datamodule = AnomalibDataModule.from_config(tmp_path / "data.yaml")
    assert (datamodule.n_normal, datamodule.protocol, datamodule.eval_batch_size) == (12, "dissertation", 5)
