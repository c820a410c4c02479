"""Labeled images by a table."""

from __future__ import annotations

import os
import shutil

import pytest

from anomalib_cxr.errors import DatasetError
from anomalib_cxr.screening.calibration_table import labeled_by_table


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


def refusal_of(path):
    """Return what is named by reason."""
    with pytest.raises(DatasetError) as error:
        labeled_by_table(path)
    return {reason: list(map(str, named)) for reason, named in error.value.offenders.items()}


def test_rows(table, images, tmp_path):
    names = [image.name for image in (*images[:3], *images[60:63])]
    labels = ["normal", " Healthy ", "0", "sick", "1", "ABNORMAL"]
    found = labeled_by_table(table([f"{name},{label}" for name, label in zip(names, labels, strict=True)]))
    assert list(found.images.path) == [tmp_path / name for name in names]
    assert found.images.is_sick.tolist() == [False] * 3 + [True] * 3
    assert [set(found.images[name]) for name in ("hospital", "view", "sex")] == [{""}] * 3
    assert found.images.age.isna().all()
    assert "patient" not in found.images


def test_people(table, images):
    texts = ("normal,P1,a,PA,m,40", "sick,P2,b,ap supine, F ,", "sick,P3,,,,")
    rows = [f"{image.name},{text}" for image, text in zip((images[0], *images[60:62]), texts, strict=True)]
    found = labeled_by_table(table(rows, "image,label,patient,hospital,view,sex,age")).images
    assert found["view"].tolist() == ["PA", "AP", ""]
    assert found.patient.tolist() == ["a/P1", "b/P2", "unknown/P3"]
    assert found.hospital.tolist() == ["a", "b", ""]
    assert found.sex.tolist() == ["M", "F", ""]
    assert found.age.isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("text", "years"),
    [("34", 34), ("034Y", 34), ('"34,5"', 34.5), ("0.5yrs", 0.5), ("6 months", 0.5), ("018M", 1.5), ("0", 0)],
)
def test_ages(table, images, text, years):
    assert labeled_by_table(table([f"{images[0].name},normal,{text}"], "image,label,age")).images.age.item() == years


@pytest.mark.parametrize("text", ["old", "-1", "nan", "inf", "3 4", "1999", "Y"])
def test_ages_that_are_none(table, images, text):
    refusal = refusal_of(table([f"{images[0].name},normal,{text}"], "image,label,age"))
    assert refusal == {f"age '{text}'": [images[0].name]}


class TestCopies:
    """One image is one row, whatever its path is."""

    def copies_of(self, image, folder, how):
        path = folder / "again.png"
        {"copy": shutil.copyfile, "hard link": os.link, "link": os.symlink}[how](image.resolve(), path)
        return path

    @pytest.mark.parametrize("how", ["copy", "hard link", "link"])
    def test_under_another_name(self, table, images, tmp_path, how):
        first, again = tmp_path / images[60].name, self.copies_of(images[60], tmp_path, how)
        refusal = refusal_of(table([f"{first.name},sick", "again.png,sick", f"{images[0].name},normal"]))
        ((named,),) = refusal.values()
        assert sorted(named.split(" = ")) == sorted([str(first), str(again)])

    @pytest.mark.parametrize("how", ["copy", "hard link", "link"])
    def test_with_two_labels(self, table, images, tmp_path, how):
        first, again = tmp_path / images[60].name, self.copies_of(images[60], tmp_path, how)
        refusal = refusal_of(table([f"{first.name},sick", "again.png,normal"]))
        assert {name: sorted(named) for name, named in refusal.items()} == {
            "copies with two labels": sorted([str(first), str(again)])
        }

    def test_spellings(self, table, images, tmp_path):
        (tmp_path / "sub").mkdir()
        name = images[60].name
        found = refusal_of(table([f"{spelling}{name},sick" for spelling in ("", "sub/../", "sub/../sub/../")]))
        assert "".join(found["the same image twice"]).count(name) == 3

    def test_one_path_with_two_labels(self, table, images):
        name = images[60].name
        assert refusal_of(table([f"{name},sick", f"{name},normal"])) == {"with two labels": [name]}


def test_a_patient_missing(table, images, tmp_path):
    rows = [f"{images[0].name},normal,A", f"{images[60].name},sick, ", f"{images[61].name},sick"]
    refusal = refusal_of(table(rows, "image,label,patient"))
    assert refusal == {"no patient": [str(tmp_path / image.name) for image in images[60:62]]}


class TestIdsOfHospitals:
    """Each hospital gives IDs of its own: patient 1 of one is another person than patient 1 of the other."""

    def read(self, table, images, *people):
        rows = [f"{image.name},sick,{person}" for image, person in zip(images[60:63], people, strict=True)]
        return table(rows, "image,label,hospital,patient")

    def test_count_one_by_one(self, table, images):
        found = labeled_by_table(self.read(table, images, "north,1", "south,1", "north,1")).images
        assert found.patient.nunique() == 2
        assert found.patient[0] == found.patient[2] != found.patient[1]

    def test_of_one_hospital_stay_as_they_are(self, table, images):
        found = labeled_by_table(self.read(table, images, "north,1", "north,2", "north,1")).images
        assert found.patient.tolist() == ["1", "2", "1"]

    def test_without_their_hospital(self, table, images, tmp_path):
        """It may be the person of the known hospital, or another one."""
        refusal = refusal_of(self.read(table, images, "north,1", "south,2", ",1"))
        assert refusal == {"no hospital": [str(tmp_path / images[62].name)]}


def test_absolute_paths(table, images):
    assert list(labeled_by_table(table([f"{images[5]},normal"])).images.path) == [images[5]]


def test_all_bad_rows_at_once(table, images):
    good, twice = images[0].name, images[60].name
    rows = [f"{good},normal", f"{twice},sick", f"{twice},sick", "none.png,sick", ",normal", f"{images[1].name},ill"]
    assert refusal_of(table(rows)) == {
        "no such file": ["none.png", "(empty)"],
        "label 'ill'": [images[1].name],
        "named twice": [twice],
    }


def test_all_that_are_no_xrays_at_once(table, images, tmp_path):
    bad = [tmp_path / "x.png", tmp_path / "y.png"]
    for path in bad:
        path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="2 of 3 files that are no frontal radiograph") as error:
        labeled_by_table(table([f"{bad[0].name},normal", f"{images[0].name},normal", f"{bad[1].name},sick"]))
    assert [list(map(str, paths)) for paths in error.value.offenders.values()] == [list(map(str, bad))]


def test_missing_columns(table):
    with pytest.raises(DatasetError, match=r"the columns file, class\n.*the columns image, label"):
        labeled_by_table(table(["a.png,sick"], "file,class"))


@pytest.mark.parametrize("content", [None, b"", b'image,label\n"a\n', b"\xff\xfe\x00\x80,\n", b"image,label\n"])
def test_no_table(tmp_path, content):
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"labels.csv.*\n.*the columns image, label"):
        labeled_by_table(path)
