"""Models, and labeled images by a data module."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from anomalib_cxr import ChestPhantom
from anomalib_cxr.data.datamodules.base import RoiDataModule
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration_data import (
    data_settings,
    ensure_exported,
    labeled_by_datamodule,
)


class TestDataModule:
    def test_held_out_parts(self, labeled, data):
        datamodule = ChestPhantom(**data["init_args"])
        datamodule.setup()
        held_out = pd.concat([datamodule.val_data.samples, datamodule.test_data.samples])
        assert set(map(str, labeled.images.path)) == set(held_out.image_path)
        assert not set(map(str, labeled.images.path)) & set(datamodule.train_data.samples.image_path)
        assert all(
            path.stem.endswith("_1") == sick
            for path, sick in zip(*map(labeled.images.get, ["path", "is_sick"]), strict=True)
        )

    def test_facts_of_the_people(self, labeled, phantoms):
        for row in labeled.images.itertuples():
            sex, age, _ = (phantoms / "ClinicalReadings" / f"{row.path.stem}.txt").read_text().splitlines()
            assert (row.sex, row.age, row.hospital) == (sex[-1], int(age[-4:-1]), "phantom")

    def test_one_part(self, data, labeled):
        parts = [labeled_by_datamodule(data, [part]) for part in ("val", "test")]
        assert len(labeled.images) == sum(len(part.images) for part in parts)
        assert all(len(part.images) for part in parts)

    def test_images_of_both_parts_count_once(self, data):
        """In the protocol of the dissertation validation is the test set."""
        settings = {**data, "init_args": {**data["init_args"], "protocol": "dissertation"}}
        found = [labeled_by_datamodule(settings, parts).images.path for parts in (["val"], ["val", "test"])]
        assert sorted(found[0]) == sorted(found[1])

    def test_patients_where_the_module_knows_them(self, data, labeled, monkeypatch):
        def with_patients(datamodule):
            samples = RoiDataModule.make_samples(datamodule)
            return samples.assign(patient=range(len(samples)))

        assert "patient" not in labeled.images
        monkeypatch.setattr(ChestPhantom, "make_samples", with_patients)
        found = labeled_by_datamodule(data, ("val", "test")).images
        assert found.patient.nunique() == len(found)

    def test_view_where_the_module_knows_it(self, data, labeled, monkeypatch):
        def with_views(datamodule):
            samples = RoiDataModule.make_samples(datamodule)
            return samples.assign(view=["PA", None] * (len(samples) // 2))

        assert set(labeled.images["view"]) == {""}
        monkeypatch.setattr(ChestPhantom, "make_samples", with_views)
        assert set(labeled_by_datamodule(data, ("val", "test")).images["view"]) == {"PA", ""}

    def test_a_data_module_of_anomalib(self, tmp_path, images):
        """It knows neither lungs nor people."""
        for number, path in enumerate((*images[:12], *images[60:66])):
            folder = tmp_path / ("sick" if path.stem.endswith("1") else "normal")
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.png").symlink_to(path)
        place = {"name": "own", "root": str(tmp_path), "normal_dir": "normal", "abnormal_dir": "sick"}
        found = labeled_by_datamodule({"class_path": "anomalib.data.Folder", "init_args": place}, ["val", "test"])
        assert found.images.is_sick.sum() == 6
        assert 6 < len(found.images) < 18  # the others train
        assert (set(found.images.sex), found.images.age.isna().all()) == ({""}, True)


@pytest.fixture
def training(tmp_path):
    for name in ("weights/lightning/model.ckpt", "report/model.yaml", "weights/openvino/model.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def test_an_exported_model_is_taken_as_it_is(exported):
    assert ensure_exported(exported) == exported
    assert ensure_exported(exported / "model.xml") == exported / "model.xml"


def test_an_export_that_is_there_is_taken(training):
    os.utime(training / "weights/lightning/model.ckpt", (1, 1))
    assert ensure_exported(training) == training / "weights" / "openvino"


def test_something_else(tmp_path):
    with pytest.raises(ScreeningError, match=r"without model.xml and without .*model.ckpt and .*model.yaml\n"):
        ensure_exported(tmp_path)


def test_data(tmp_path):
    assert data_settings(tmp_path) is None
    (tmp_path / "config.yaml").write_text("data:\n  class_path: anomalib_cxr.ChestPhantom\n  init_args: {size: 64}\n")
    assert data_settings(tmp_path) == {"class_path": "anomalib_cxr.ChestPhantom", "init_args": {"size": 64}}
