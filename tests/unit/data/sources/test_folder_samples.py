"""Samples of one's own: what headers say, what is not known, and what is too little."""

from __future__ import annotations

import logging

import pandas as pd
import pytest
from anomalib import TaskType
from pydicom import dcmread
from pydicom.data import get_testdata_file

from anomalib_cxr.data.sources.folder_samples import check_enough, complete_samples, relative_name, warn_of_views
from anomalib_cxr.errors import DatasetError


@pytest.fixture
def write_dicom(tmp_path):
    """Write a DICOM file with some attributes."""

    def write(name, **attributes):
        dataset = dcmread(get_testdata_file("CT_small.dcm"))
        for keyword in ("PatientID", "PatientAge", "PatientSex"):
            setattr(dataset, keyword, "")
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / name)
        return str(tmp_path / name)

    return write


def table(*paths, **columns):
    return pd.DataFrame({"image_path": paths, "label_index": 0, **columns})


def test_headers(write_dicom, tmp_path):
    told = write_dicom("a", PatientID="P7", ViewPosition="ap", PatientSex="F", PatientAge="034Y")
    samples = complete_samples(table(told), tmp_path)
    row = samples.iloc[0]
    assert (row.patient, row["view"], row.sex, row.age) == ("P7", "AP", "F", 34.0)
    assert (row.label, row.source, row.split, row.mask_path, row.roi_mask_paths) == (
        "normal",
        tmp_path.name,
        "",
        "",
        (),
    )
    assert samples.attrs["task"] == TaskType.CLASSIFICATION


def test_without_an_id_the_study_is_the_patient(write_dicom, tmp_path):
    studies = [
        write_dicom(name, StudyInstanceUID=uid) for name, uid in {"a": "1.2.3", "b": "1.2.3", "c": "1.2.4"}.items()
    ]
    assert complete_samples(table(*studies), tmp_path).patient.tolist() == ["1.2.3", "1.2.3", "1.2.4"]


@pytest.mark.parametrize(("shared", "others"), [(20, 0), (20, 19)])
def test_one_patient_id_for_most_files_is_refused(write_dicom, tmp_path, shared, others):
    identifiers = ["ANONYMOUS"] * shared + [f"P{number}" for number in range(others)]
    paths = [write_dicom(str(number), PatientID=name) for number, name in enumerate(identifiers)]
    with pytest.raises(DatasetError, match=f"20 of {len(paths)} X-rays with the same Patient ID") as caught:
        complete_samples(table(*paths), tmp_path)
    assert "ANONYMOUS" not in str(caught.value)
    told = complete_samples(table(*paths, patient=""), tmp_path)
    assert told.patient.nunique() == len(paths)


@pytest.mark.parametrize(("shared", "others"), [(19, 0), (20, 20)])
def test_a_patient_with_several_x_rays_is_none(write_dicom, tmp_path, shared, others):
    identifiers = ["P"] * shared + [f"P{number}" for number in range(others)]
    paths = [write_dicom(str(number), PatientID=name) for number, name in enumerate(identifiers)]
    assert complete_samples(table(*paths), tmp_path).patient.tolist() == identifiers


def test_pictures_and_damaged_files_count_as_patients(tmp_path, caplog):
    for name, content in {"a.png": b"\x89PNG", "b.dcm": b"", "c.jpg": b"x"}.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in ("a.png", "b.dcm", "c.jpg")]
    with caplog.at_level(logging.WARNING):
        samples = complete_samples(table(*paths), tmp_path)
    assert samples.patient.tolist() == ["a.png", "b.dcm", "c.jpg"]
    assert "No patient is known for 3 of 3 X-rays" in caplog.text


def test_known_columns_are_kept_and_patients_of_hospitals_told_apart(write_dicom, tmp_path):
    paths = [write_dicom(name, PatientID="P7", PatientSex="M") for name in "abc"]
    known = table(*paths, source=["north", "south", "south"], patient=["1", "1", ""], sex=["F", None, "F"])
    samples = complete_samples(known, tmp_path)
    assert samples.patient.tolist() == ["north/1", "south/1", "c"]
    assert samples.sex.fillna("").tolist() == ["F", "", "F"]


def test_task_by_masks_of_all_abnormal(tmp_path):
    images = table("a.png", "b.png", "c.png", patient="", view="", sex=None, age=None).assign(label_index=[0, 1, 1])
    whole = complete_samples(images.assign(mask_path=["", "b", "c"]), tmp_path)
    partial = complete_samples(images.assign(mask_path=["", "b", ""]), tmp_path)
    assert (whole.attrs["task"], partial.attrs["task"]) == (TaskType.SEGMENTATION, TaskType.CLASSIFICATION)


def test_relative_name(tmp_path):
    assert relative_name(tmp_path / "a/b.png", tmp_path) == "a/b.png"
    assert relative_name("/elsewhere/b.png", tmp_path) == "/elsewhere/b.png"


class TestViews:
    def warned(self, caplog, views, splits):
        with caplog.at_level(logging.WARNING):
            warn_of_views(pd.DataFrame({"view": views, "split": splits}))
        return caplog.text

    def test_one_view_only(self, caplog):
        assert "All X-rays of a known view are AP" in self.warned(caplog, ["AP", "", "AP"], ["train", "train", "test"])

    def test_a_view_that_was_not_trained(self, caplog):
        text = self.warned(caplog, ["PA", "AP", "AP", "AP"], ["train", "val", "test", "unused"])
        assert "2 X-rays of the view AP validate or test, and only PA trained" in text

    @pytest.mark.parametrize("views", [["PA", "AP", "PA", "AP"], ["", "", "", ""]])
    def test_nothing_to_warn_of(self, caplog, views):
        assert self.warned(caplog, views, ["train", "train", "val", "test"]) == ""


class TestEnough:
    def samples(self, **counts):
        """Return X-rays by split and label, such as `train0=60`."""
        rows = [(name[:-1].removeprefix("any"), int(name[-1])) for name, count in counts.items() for _ in range(count)]
        return pd.DataFrame(rows, columns=["split", "label_index"])

    @pytest.mark.parametrize("counts", [{"any0": 59, "test0": 20}, {"train0": 59, "val0": 5}])
    def test_too_few_to_train(self, counts):
        with pytest.raises(DatasetError, match="59 healthy X-rays to train on") as caught:
            check_enough(self.samples(**counts), 60)
        assert "at least 60" in caught.value.expected

    @pytest.mark.parametrize(
        "counts",
        [{"any0": 60}, {"train0": 60, "val0": 6}, {"train0": 60, "val0": 1, "val1": 1, "test0": 1, "test1": 1}],
    )
    def test_enough(self, counts):
        check_enough(self.samples(**counts), 60)

    def test_splits_without_a_label(self):
        with pytest.raises(DatasetError, match="no healthy X-ray in val; no abnormal X-ray in test"):
            check_enough(self.samples(train0=60, val1=2, test0=3), 60)
