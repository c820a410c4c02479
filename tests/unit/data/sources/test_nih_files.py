"""Table, folders and lists of NIH ChestX-ray14: as both releases have them, and damaged."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from anomalib_cxr.data.sources.nih_files import FINDINGS, find_images, read_entries, read_list
from anomalib_cxr.errors import DatasetError

NEW = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
OLD = f"{NEW},"  # the copy that Kaggle has ends all lines by a comma
SEX = NEW.replace("Patient Gender", "Patient Sex")  # the release of today
ROW = "00000002_000.png,Cardiomegaly|Effusion,0,2,{age},M,PA,2682,2749,0.143,0.143"


def write_table(root, *lines, name="Data_Entry_2017.csv", encoding="utf-8"):
    (root / name).write_text("\n".join(lines), encoding=encoding)
    return root


class TestTable:
    @pytest.mark.parametrize(("header", "end"), [(NEW, ""), (OLD, ","), (SEX, ","), (SEX.upper(), "")])
    @pytest.mark.parametrize("name", ["Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_each_release(self, tmp_path, header, end, name, encoding):
        entries = read_entries(write_table(tmp_path, header, ROW.format(age=58) + end, name=name, encoding=encoding))
        assert entries.to_dict("records") == [
            {
                "name": "00000002_000.png",
                "reading": "Cardiomegaly|Effusion",
                "patient": "2",
                "age": 58.0,
                "sex": "M",
                "view": "PA",
            }
        ]

    @pytest.mark.parametrize(
        ("text", "years"),
        [("58", 58), ("058Y", 58), ("006M", 0.5), ("120", 120), ("414", math.nan), ("", math.nan), ("old", math.nan)],
    )
    def test_ages(self, tmp_path, text, years):
        assert read_entries(write_table(tmp_path, NEW, ROW.format(age=text))).age[0] == pytest.approx(
            years, nan_ok=True
        )

    def test_sex_and_view_that_are_not_told_are_missing(self, tmp_path):
        row = ROW.format(age=58).replace(",M,PA,", ",,LL,")
        entries = read_entries(write_table(tmp_path, NEW, row))
        assert entries[["sex", "view"]].isna().all(axis=None)

    def test_sorted_by_name(self, tmp_path):
        rows = [f"{name}.png,No Finding,0,1,58,M,PA,1,1,1,1" for name in "bca"]
        assert list(read_entries(write_table(tmp_path, NEW, *rows)).name) == ["a.png", "b.png", "c.png"]

    def test_the_phantoms_have_the_findings_that_the_set_has(self, nih_root):
        told = set(read_entries(nih_root).reading.str.split("|").explode())
        assert told - {"No Finding"} <= set(FINDINGS)
        assert len(FINDINGS) == 14


class TestTableRefused:
    @pytest.mark.parametrize(
        "found", ["no folder .*nowhere", "which is empty", r"with images, and no Data_Entry_2017\*"]
    )
    def test_no_table(self, tmp_path, found):
        root = tmp_path / ("nowhere" if "nowhere" in found else "set")
        if "nowhere" not in found:
            root.mkdir()
        if "images" in found:
            (root / "images").mkdir()
        with pytest.raises(DatasetError, match=found) as caught:
            read_entries(root)
        assert "images_001/images/" in caught.value.expected
        assert "datasets/README.md" in caught.value.next_step

    def test_two_tables(self, tmp_path):
        for name in ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"):
            write_table(tmp_path, NEW, ROW, name=name)
        with pytest.raises(DatasetError, match=r"2 tables in .*: Data_Entry_2017.csv, Data_Entry_2017_v2020.csv"):
            read_entries(tmp_path)

    def test_all_missing_columns_at_once(self, tmp_path):
        with pytest.raises(DatasetError, match="without Finding Labels, Patient ID\n") as caught:
            read_entries(
                write_table(tmp_path, NEW.replace("Finding Labels", "Labels").replace("Patient ID", "ID"), ROW)
            )
        assert "Image Index, Finding Labels, Patient ID" in caught.value.expected

    @pytest.mark.parametrize(
        ("content", "found"),
        [(b"", "cannot be read"), (b"\xff\xfe\x00", "cannot be read"), (NEW.encode(), "without rows")],
    )
    def test_no_table_inside(self, tmp_path, content, found):
        (tmp_path / "Data_Entry_2017.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=f"Data_Entry_2017.csv:? {found}"):
            read_entries(tmp_path)

    def test_all_rows_that_cannot_be_used(self, tmp_path):
        no_patient = ROW.format(age=58).replace(",0,2,", ",0,,").replace("2_000", "3_000")
        no_finding = "00000004_000.png,,0,4,58,M,PA,1,1,1,1"
        root = write_table(tmp_path, NEW, ROW, no_patient, ROW, no_finding)
        with pytest.raises(DatasetError, match="that cannot be used") as caught:
            read_entries(root)
        assert {reason: list(map(str, rows)) for reason, rows in caught.value.offenders.items()} == {
            "incomplete": ["line 3", "line 5"],
            "the same image twice": ["00000002_000.png"],
        }


class TestImages:
    def make(self, root, *paths):
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        return root

    def test_twelve_folders_and_a_single_one(self, tmp_path):
        paths = ["images_001/images/a.png", "images_012/images/b.png", "images/c.png"]
        found = find_images(self.make(tmp_path, *paths))
        assert found.to_dict() == {path.rpartition("/")[2]: str(tmp_path / path) for path in paths}

    def test_what_is_no_image_is_passed_over(self, tmp_path):
        others = ["images/._a.png", "images/README.txt", "images_001/b.png", "masks/c.png"]
        assert list(find_images(self.make(tmp_path, "images/a.png", *others)).index) == ["a.png"]

    def test_none(self, tmp_path):
        with pytest.raises(DatasetError, match=r"with images_001, and no image in images_\*/images or images"):
            find_images(self.make(tmp_path, "images_001/a.png"))

    def test_the_same_name_twice(self, tmp_path):
        root = self.make(tmp_path, "images_001/images/a.png", "images/a.png", "images/b.png")
        with pytest.raises(DatasetError, match="of the same name") as caught:
            find_images(root)
        assert caught.value.offenders == {
            "the same name twice": [root / "images/a.png", root / "images_001/images/a.png"]
        }


class TestLists:
    KNOWN = pd.Series(["a.png", "b.png", "c.png"])

    @pytest.mark.parametrize("text", ["c.png\na.png", "a.png\r\nc.png\r\n", "\ufeffa.png\nc.png\n\n"])
    def test_members(self, tmp_path, text):
        (tmp_path / "list.txt").write_text(text, encoding="utf-8", newline="")
        assert read_list(tmp_path, "list.txt", self.KNOWN).tolist() == [True, False, True]

    def test_missing(self, tmp_path):
        with pytest.raises(DatasetError, match=r"test_list.txt: cannot be read .*No such file") as caught:
            read_list(tmp_path, "test_list.txt", self.KNOWN)
        assert "data.init_args.draw to dissertation" in caught.value.next_step

    def test_all_unknown_images(self, tmp_path):
        (tmp_path / "list.txt").write_text("a.png\nx.png\ny.png")
        with pytest.raises(DatasetError, match=r"list.txt, which names 2 images that are not in the table") as caught:
            read_list(tmp_path, "list.txt", self.KNOWN)
        assert list(map(str, caught.value.offenders["not in the table"])) == ["x.png", "y.png"]
