"""The samples table: its columns, and the same rows from every layout of the same images."""

from __future__ import annotations

import pandas as pd
import pytest
from anomalib import TaskType

from anomalib_cxr import NihChestXray14
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.samples import SampleRow, make_samples


def by_name(samples):
    return samples.set_index(samples.image_path.str.rpartition("/")[2])


class TestColumns:
    def test_a_normal_and_a_sick_phantom(self, phantom_root):
        samples = by_name(make_samples(phantom_root))
        assert list(samples.columns) == list(SampleRow.__annotations__)
        normal, sick = samples.loc["PHANTOM_0000_0.png"], samples.loc["PHANTOM_0011_1.png"]
        assert (normal.label, normal.label_index, normal.mask_path) == ("normal", 0, "")
        assert (sick.label, sick.label_index) == ("abnormal", 1)
        assert sick.mask_path == str(phantom_root / "lesions/PHANTOM_0011_1.png")
        assert sick.roi_mask_paths == (str(phantom_root / "masks/PHANTOM_0011_1.png"),)
        assert (sick.source, sick.reading, sick.split) == ("phantom", "nodules", "unused")

    def test_nih_has_all_of_them_and_two_more(self, nih_root):
        samples = NihChestXray14(nih_root, n_train=1, n_val=1, n_test=1).list_samples()
        assert set(samples.columns) - {"patient", "view"} == set(SampleRow.__annotations__)

    def test_every_column_is_documented(self):
        attributes = (SampleRow.__doc__ or "").partition("Attributes:")[2]
        assert [line.split(":")[0].strip() for line in attributes.strip().splitlines()] == [*SampleRow.__annotations__]

    def test_lung_masks_are_never_where_the_anomaly_is(self, merged_root):
        assert (make_samples(merged_root).mask_path == "").all()

    def test_left_and_right_mask(self, montgomery_root):
        masks = make_samples(montgomery_root).roi_mask_paths
        assert (masks.map(len) == 2).all()

    def test_no_clinical_files(self, editable, phantom_root):
        root = editable(phantom_root)
        for path in (root / "ClinicalReadings").iterdir():
            path.unlink()
        samples = make_samples(root)
        assert samples[["age", "sex", "reading"]].isna().all(axis=None)


class TestClinicalFiles:
    @pytest.fixture
    def expected(self, montgomery_files, shenzhen_files):
        """Sex, age and findings by name, read from the phantoms' own files without the code under test."""
        rows = {}
        for folder in (montgomery_files, shenzhen_files):
            for path in (folder / "ClinicalReadings").iterdir():
                sex, age, finding = path.read_text().splitlines()
                rows[f"{path.stem}.png"] = (sex[-1], float(age[-4:-1]), finding)
        return rows

    @pytest.mark.parametrize("layout", ["side_by_side_root", "merged_root"])
    def test_age_sex_and_reading(self, request, expected, layout):
        samples = by_name(make_samples(request.getfixturevalue(layout)))
        found = {name: (row.sex, row.age, row.reading) for name, row in samples.iterrows()}
        assert found == expected
        assert pd.api.types.is_float_dtype(samples.age)


class TestTask:
    def test_lesion_masks_of_all_sick_images_allow_pixel_metrics(self, phantom_root):
        assert make_samples(phantom_root).attrs["task"] == TaskType.SEGMENTATION

    def test_no_lesion_masks(self, merged_root):
        assert make_samples(merged_root).attrs["task"] == TaskType.CLASSIFICATION

    def test_lesion_masks_of_some_sick_images(self, editable, phantom_root):
        root = editable(phantom_root)
        (root / "lesions/PHANTOM_0011_1.png").unlink()
        assert make_samples(root).attrs["task"] == TaskType.CLASSIFICATION

    def test_no_sick_images(self, tmp_path):
        root = write_phantoms(tmp_path / "healthy", n_normal=2, n_sick=0, size=32)
        assert make_samples(root).attrs["task"] == TaskType.CLASSIFICATION
