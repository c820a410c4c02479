"""Tables of X-rays: what is read, and that everything wrong is named at once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from anomalib_cxr.data.sources.folder_table import read_table
from anomalib_cxr.errors import DatasetError


@pytest.fixture
def write(tmp_path):
    """Write a table, and empty files for the images a to f: nothing is opened here."""
    for name in "abcdef":
        (tmp_path / f"{name}.dcm").touch()

    def write_lines(*lines, encoding="utf-8"):
        path = tmp_path / "own.csv"
        path.write_text("\n".join([*lines, ""]), encoding=encoding)
        return path

    return write_lines


def read(path):
    return read_table(path, path.parent)


def offenders_of(path):
    with pytest.raises(DatasetError) as caught:
        read(path)
    return {reason: [file.as_posix() for file in files] for reason, files in caught.value.offenders.items()}


def test_all_columns(write, tmp_path):
    table = read(
        write(
            "image,label,patient,hospital,view,sex,age,split,mask,lung_mask",
            "b.dcm,SICK,p2,north,ap supine,Female,058Y,test,c.dcm,d.dcm",
            "a.dcm,0,p1,,PA,o,34.5,train,,",
        )
    )
    assert [Path(path).name for path in table.image_path] == ["a.dcm", "b.dcm"]
    assert table.label_index.tolist() == [0, 1]
    assert table.patient.tolist() == ["p1", "p2"]
    assert table.source.tolist() == ["unknown", "north"]
    assert table["view"].tolist() == ["PA", "AP"]
    assert table.sex.fillna("").tolist() == ["", "F"]
    assert table.age.tolist() == [34.5, 58.0]
    assert table.split.tolist() == ["train", "test"]
    assert table.mask_path.tolist() == ["", str(tmp_path / "c.dcm")]
    assert table.roi_mask_paths.tolist() == [(), (str(tmp_path / "d.dcm"),)]


def test_some_splits_are_left_to_chance(write):
    assert read(write("image,label,split", "a.dcm,0,train", "b.dcm,0,")).split.tolist() == ["train", ""]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_written_by_a_spreadsheet(write, separator):
    path = write(f" Image {separator}Label", f" a.dcm {separator} Healthy ", encoding="utf-8-sig")
    table = read(path)
    assert (list(table.columns), table.label_index.tolist()) == (["image_path", "label_index"], [0])


def test_columns_that_are_not_used_are_told(write, caplog):
    with caplog.at_level(logging.INFO):
        read(write("image,label,ward", "a.dcm,0,7"))
    assert "columns that are not used: ward" in caplog.text


def test_everything_wrong_at_once(write):
    path = write(
        "image,label,view,sex,age,split,mask",
        "a.dcm,well,PA,F,30,train,",
        "b.dcm,,LL,M,-1,train,",
        "c.dcm,0,PA,X?,old,later,",
        "gone.dcm,0,PA,F,30,train,",
        "d.dcm,0,PA,F,30,train,",
        "d.dcm,0,PA,F,30,train,",
        "e.dcm,0,PA,F,130,val,a.dcm",
        "./e.dcm,1,PA,F,30,val,",
        "f.dcm,1,PA,F,,train,lost.png",
    )
    assert offenders_of(path) == {
        "no such file": ["gone.dcm"],
        "label ''": ["b.dcm"],
        "label 'well'": ["a.dcm"],
        "view 'LL'": ["b.dcm"],
        "sex 'X?'": ["c.dcm"],
        "age '-1'": ["b.dcm"],
        "age '130'": ["e.dcm"],
        "age 'old'": ["c.dcm"],
        "split 'later'": ["c.dcm"],
        "mask: no such file": ["lost.png"],
        "with two labels": ["e.dcm", "e.dcm"],
        "named twice": ["d.dcm"],
        "sick, and would train": ["f.dcm"],
        "healthy, with a mask of an anomaly": ["e.dcm"],
    }


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["image,finding", "a.dcm,0"], "1 rows and the columns image, finding"),
        (["image,label"], "0 rows"),
        (["image,label,Label", "a.dcm,0,0"], "image, label, label"),
        (["image,label", '"a.dcm,0'], "cannot be read"),
    ],
)
def test_no_table(write, lines, found):
    with pytest.raises(DatasetError, match=found):
        read(write(*lines))


def test_another_encoding(write):
    with pytest.raises(DatasetError, match="cannot be read"):
        read(write("image,label,hospital", "a.dcm,0,Köln", encoding="latin-1"))


def test_missing(tmp_path):
    with pytest.raises(DatasetError, match="No such file") as caught:
        read(tmp_path / "own.csv")
    assert "data.init_args.table" in caught.value.next_step
