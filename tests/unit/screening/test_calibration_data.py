"""Labeled images by a data module and by a table."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from anomalib_cxr import ChestPhantom
from anomalib_cxr.data.datamodules.base import RoiDataModule
from anomalib_cxr.errors import DatasetError, ScreeningError
from anomalib_cxr.screening.calibration_data import (
    data_settings,
    ensure_exported,
    labeled_by_datamodule,
    labeled_by_table,
)


@pytest.fixture
def table(tmp_path, images):
    """Write a table of rows in the folder of the phantoms' images."""

    def write(rows, columns="image,label", name="labels.csv"):
        path = tmp_path / name
        path.write_text("\n".join([columns, *rows, ""]))
        return path

    for image in (*images[:3], *images[60:63]):
        (tmp_path / image.name).symlink_to(image)
    return write


class TestDataModule:
    def test_held_out_parts_and_training_images(self, labeled, phantoms, data):
        datamodule = ChestPhantom(**data["init_args"])
        datamodule.setup()
        held_out = pd.concat([datamodule.val_data.samples, datamodule.test_data.samples])
        assert set(map(str, labeled.images.path)) == set(held_out.image_path)
        assert set(map(str, labeled.references)) == set(datamodule.train_data.samples.image_path)
        assert not set(labeled.references) & set(labeled.images.path)
        assert all(
            path.stem.endswith("_1") == sick
            for path, sick in zip(*map(labeled.images.get, ["path", "is_sick"]), strict=True)
        )
        for path, masks in zip(labeled.references, labeled.masks, strict=True):
            assert masks == (str(phantoms / "masks" / path.name),)

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

    def test_a_data_module_of_anomalib(self, tmp_path, images):
        """It knows neither lungs nor people."""
        for number, path in enumerate((*images[:12], *images[60:66])):
            folder = tmp_path / ("sick" if path.stem.endswith("1") else "normal")
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.png").symlink_to(path)
        place = {"name": "own", "root": str(tmp_path), "normal_dir": "normal", "abnormal_dir": "sick"}
        found = labeled_by_datamodule({"class_path": "anomalib.data.Folder", "init_args": place}, ["val", "test"])
        assert found.images.is_sick.sum() == 6
        assert len(found.references) + len(found.images) == 18
        assert set(found.masks) == {()}
        assert (set(found.images.sex), found.images.age.isna().all()) == ({""}, True)


class TestTable:
    def test_rows(self, table, images, tmp_path):
        names = [image.name for image in (*images[:3], *images[60:63])]
        rows = [
            f"{name},{label}"
            for name, label in zip(names, ["normal", " Healthy ", "0", "sick", "1", "ABNORMAL"], strict=True)
        ]
        found = labeled_by_table(table(rows))
        assert list(found.images.path) == [tmp_path / name for name in names]
        assert found.images.is_sick.tolist() == [False] * 3 + [True] * 3
        assert found.references == [tmp_path / name for name in names[:3]]
        assert found.masks == [()] * 3
        assert (set(found.images.sex), set(found.images.hospital), found.images.age.isna().all()) == ({""}, {""}, True)

    def test_people(self, table, images):
        rows = [f"{images[0].name},normal,a,m,40", f"{images[60].name},sick,b, F ,", f"{images[61].name},sick,,,old"]
        found = labeled_by_table(table(rows, "image,label,hospital,sex,age")).images
        assert found.hospital.tolist() == ["a", "b", ""]
        assert found.sex.tolist() == ["M", "F", ""]
        assert found.age.isna().tolist() == [False, True, True]

    def test_patients(self, table, images):
        rows = [f"{images[0].name},normal,A", f"{images[60].name},sick, A "]
        assert labeled_by_table(table(rows, "image,label,patient")).images.patient.tolist() == ["A", "A"]
        assert "patient" not in labeled_by_table(table([f"{images[0].name},normal"])).images

    def test_a_patient_missing(self, table, images, tmp_path):
        rows = [f"{images[0].name},normal,A", f"{images[60].name},sick, ", f"{images[61].name},sick"]
        with pytest.raises(DatasetError) as error:
            labeled_by_table(table(rows, "image,label,patient"))
        without = [tmp_path / image.name for image in images[60:62]]
        assert error.value.offenders == {"no patient, in a table with patients": without}

    def test_absolute_paths(self, table, images):
        assert list(labeled_by_table(table([f"{images[5]},normal"])).images.path) == [Path(images[5])]

    def test_all_bad_rows_at_once(self, table, images, tmp_path):
        good, twice = images[0].name, images[60].name
        rows = [f"{good},normal", f"{twice},sick", f"{twice},sick", "none.png,sick", ",normal", f"{images[1].name},ill"]
        with pytest.raises(DatasetError, match="4 of 6 rows that cannot be used") as error:
            labeled_by_table(table([*rows]))
        assert error.value.offenders == {
            "no such file": [tmp_path / "none.png", tmp_path],
            "label neither normal nor sick": [tmp_path / images[1].name],
            "named twice": [tmp_path / twice],
        }

    def test_all_that_are_no_xrays_at_once(self, table, images, tmp_path):
        bad = [tmp_path / "x.png", tmp_path / "y.png"]
        for path in bad:
            path.write_bytes(b"no image")
        with pytest.raises(DatasetError, match="2 of 3 files that are no frontal radiograph") as error:
            labeled_by_table(table([f"{bad[0].name},normal", f"{images[0].name},normal", f"{bad[1].name},sick"]))
        assert list(error.value.offenders.values()) == [bad]

    def test_a_short_row(self, table, images, tmp_path):
        with pytest.raises(DatasetError, match="label neither normal nor sick") as error:
            labeled_by_table(table([f"{images[0].name},normal", images[1].name]))
        assert error.value.offenders == {"label neither normal nor sick": [tmp_path / images[1].name]}

    def test_no_rows(self, table):
        with pytest.raises(DatasetError, match="0 of 0 rows"):
            labeled_by_table(table([]))

    def test_missing_columns(self, table):
        with pytest.raises(DatasetError, match=r"without image, label; it has file, class\n"):
            labeled_by_table(table(["a.png,sick"], "file,class"))

    @pytest.mark.parametrize("content", [None, b"", b'image,label\n"a\n', b"\xff\xfe\x00\x80,\n"])
    def test_no_table(self, tmp_path, content):
        path = tmp_path / "labels.csv"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"labels.csv.*\n.*the columns image, label|a CSV file"):
            labeled_by_table(path)


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
