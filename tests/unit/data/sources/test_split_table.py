"""Splits by a table: where images go, and everything that is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from runpy import run_path

import pandas as pd
import pytest

from anomalib_cxr import MontgomeryShenzhen, NihChestXray14
from anomalib_cxr.data.datamodules.base import RoiDataModule
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.split_table import assign_by_table, read_split_table
from anomalib_cxr.errors import DatasetError, SettingError

REPOSITORY = Path(__file__).resolve().parents[4]
DETECTION = REPOSITORY / "configs" / "data" / "detection_splits.csv"
NAMES = [f"PHANTOM_{number:04d}_{int(number >= 10)}.png" for number in range(15)]  # as phantom_root has them
SPLITS = ["train"] * 6 + ["val"] + ["test"] * 2 + ["unused"] + ["val"] + ["test"] * 4


@pytest.fixture
def write(tmp_path):
    """Write a table whose column 0 is the usual one, but for some images."""

    def run(changes=None, names=NAMES, **columns):
        splits = {**dict(zip(NAMES, SPLITS, strict=True)), **(changes or {})}
        table = {"image": names, "0": [splits.get(name, "unused") for name in names], **columns}
        path = tmp_path / "splits.csv"
        pd.DataFrame(table).to_csv(path, index=False)
        return path

    return run


def split_of(root, path, **settings):
    datamodule = RoiDataModule(root, protocol="table", split_table=path, **settings)
    samples = datamodule.make_samples()
    return {Path(path).name: split for path, split in zip(samples.image_path, samples.split, strict=True)}


class TestAssigned:
    def test_each_image_goes_where_the_table_says(self, phantom_root, write):
        assert split_of(phantom_root, write()) == dict(zip(NAMES, SPLITS, strict=True))

    def test_the_seed_is_the_column(self, phantom_root, write):
        turned = SPLITS[9::-1] + SPLITS[:9:-1]  # of the normal and of the sick images, each backwards
        path = write(**{"7": turned})
        assert split_of(phantom_root, path, seed=7) == dict(zip(NAMES, turned, strict=True))
        assert split_of(phantom_root, path, seed=0) == dict(zip(NAMES, SPLITS, strict=True))

    def test_sets(self, phantom_root, write):
        datamodule = RoiDataModule(phantom_root, protocol="table", split_table=write())
        datamodule.setup("fit")
        sizes = [len(getattr(datamodule, f"{split}_data")) for split in ("train", "val", "test")]
        assert sizes == [6, 2, 6]

    def test_images_that_are_not_in_the_table_are_unused_and_counted(self, phantom_root, write, caplog):
        with caplog.at_level(logging.WARNING):
            found = split_of(phantom_root, write(names=NAMES[2:]))
        assert found == dict(zip(NAMES, ["unused"] * 2 + SPLITS[2:], strict=True))
        assert "splits.csv: 2 images, such as PHANTOM_0000_0.png" in caplog.text

    def test_images_of_hospitals_that_are_not_taken_may_stand_in_it(self, merged_root, tmp_path):
        samples = make_samples(merged_root).assign(
            name=lambda table: table.image_path.map(lambda path: Path(path).name)
        )
        kept = samples[samples.source == "montgomery"]
        splits = ["train", "train", "val", "test"] * 3
        rows = {"image": list(kept.name), "0": (splits[:10] + ["val"] + ["test"] * 4)}
        table = pd.DataFrame(rows)
        other = pd.DataFrame({"image": ["CHNCXR_9999_0.png"], "0": ["train"]})
        pd.concat([table, other]).to_csv(tmp_path / "splits.csv", index=False)
        settings = {"protocol": "table", "split_table": tmp_path / "splits.csv"}
        placed = MontgomeryShenzhen(merged_root, source="montgomery", **settings).make_samples()
        assert len(placed) == 15
        with pytest.raises(DatasetError, match=r"not among the images \(1\):\n\s+CHNCXR_9999_0.png"):
            MontgomeryShenzhen(merged_root, **settings).make_samples()

    def test_a_broken_file_that_is_skipped_is_not_missing(self, editable, phantom_root, write):
        root = editable(phantom_root)
        (root / "CXR_png" / NAMES[0]).write_bytes(b"")
        assert NAMES[0] not in split_of(root, write(), on_error="skip")

    def test_a_relative_path_starts_where_the_command_does(self, phantom_root, write, monkeypatch):
        path = write()
        monkeypatch.chdir(path.parent)
        assert split_of(phantom_root, path.name) == dict(zip(NAMES, SPLITS, strict=True))

    def test_what_spreadsheets_leave_does_not_matter(self, write):
        path = write()
        path.write_text(path.read_text().replace("train", " train "), encoding="utf-8-sig")
        assert list(read_split_table(path, 0)) == SPLITS


class TestRefused:
    def test_everything_that_is_wrong_with_images_at_once(self, editable, phantom_root, write):
        root = editable(phantom_root)
        (root / "masks" / NAMES[1]).unlink()
        path = write({NAMES[12]: "train", "PHANTOM_0099_0.png": "test"}, names=[*NAMES, "PHANTOM_0099_0.png"])
        with pytest.raises(DatasetError, match="3 images in column 0 of") as caught:
            split_of(root, path)
        assert {reason: list(map(str, images)) for reason, images in caught.value.offenders.items()} == {
            "not among the images": ["PHANTOM_0099_0.png"],
            "sick, and would train": [NAMES[12]],
            "without a lung mask, and would train": [NAMES[1]],
        }

    def test_without_a_mask_an_image_may_train_where_masks_are_optional(self, editable, phantom_root, write):
        root = editable(phantom_root)
        (root / "masks" / NAMES[1]).unlink()
        assert split_of(root, write(), masks="optional")[NAMES[1]] == "train"

    def test_unknown_values_and_images_that_stand_in_it_twice(self, phantom_root, write):
        path = write({NAMES[3]: "training", NAMES[4]: ""}, names=[*NAMES, NAMES[8]])
        with pytest.raises(DatasetError, match="3 images in column 0 of") as caught:
            split_of(phantom_root, path)
        assert {reason: list(map(str, images)) for reason, images in caught.value.offenders.items()} == {
            "twice in the table": [NAMES[8]],
            "goes to ''": [NAMES[4]],
            "goes to 'training'": [NAMES[3]],
        }

    def test_no_column_of_the_seed(self, phantom_root, write):
        with pytest.raises(DatasetError, match=r"with the columns image, 0\n\s+expected: a column 3 \(the seed\)"):
            split_of(phantom_root, write(), seed=3)

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            (dict.fromkeys(NAMES[:6], "unused"), "no normal images in train"),
            ({NAMES[6]: "train"}, "no normal images in val"),
            ({NAMES[10]: "test"}, "no sick images in val"),
            (dict.fromkeys(NAMES[11:], "unused"), "no sick images in test"),
            (dict.fromkeys([*NAMES[7:9], *NAMES[11:]], "unused"), "no normal images in test; no sick images in test"),
            ({NAMES[6]: "test", NAMES[10]: "test"}, "no normal images in val; no sick images in val"),
        ],
    )
    def test_splits_that_lack_a_kind(self, phantom_root, write, changes, found):
        with pytest.raises(DatasetError, match=f"by which there are {found}\n"):
            split_of(phantom_root, write(changes))

    def test_splits_that_lack_a_kind_by_broken_files(self, editable, phantom_root, write):
        root = editable(phantom_root)
        (root / "CXR_png" / NAMES[10]).write_bytes(b"")
        with pytest.raises(DatasetError, match="no sick images in val"):
            split_of(root, write(), on_error="skip")

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"name,0\na.png,train\n", "whose first column is 'name'"),
            (b"", "which cannot be read"),
            (b"image,0\n\xff\xfe,train\n", "which cannot be read"),
        ],
    )
    def test_files_that_are_no_table(self, phantom_root, tmp_path, content, found):
        (tmp_path / "splits.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=f"splits.csv,? {found}"):
            split_of(phantom_root, tmp_path / "splits.csv")

    def test_no_file_says_from_where_it_was_looked_for(self, phantom_root, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DatasetError, match=rf"no file nowhere\.csv \(working directory {tmp_path}\)\n"):
            split_of(phantom_root, "nowhere.csv")

    @pytest.mark.parametrize("settings", [{"protocol": "table"}, {"split_table": "splits.csv"}])
    def test_table_and_protocol_go_together(self, settings):
        with pytest.raises(SettingError, match=r"split_table = (?s:.*)with protocol: table, null without"):
            RoiDataModule("nowhere", **settings)

    def test_not_of_a_set_that_is_split_by_patient(self):
        with pytest.raises(SettingError, match="protocol = 'table'\n  expected: protocol one of holdout, dissertation"):
            NihChestXray14("nowhere", protocol="table", split_table="splits.csv")


class TestDetectionSplits:
    """The table that `configs/data/montgomery_shenzhen_detection.yaml` names."""

    table = pd.read_csv(DETECTION, dtype=str)
    script = run_path(str(REPOSITORY / "benchmarks" / "detection_splits.py"))

    @pytest.mark.parametrize("seed", range(5))
    def test_counts_by_hospital(self, seed):
        sick = self.table.image.str.endswith("_1.png")
        hospital = self.table.image.str[:6]
        counts = pd.crosstab([hospital, sick], self.table[str(seed)]).to_dict("index")
        assert counts == {
            ("CHNCXR", False): {"train": 195, "val": 28, "test": 56},
            ("CHNCXR", True): {"train": 0, "val": 30, "test": 257},
            ("MCUCXR", False): {"train": 46, "val": 6, "test": 13},
            ("MCUCXR", True): {"train": 0, "val": 5, "test": 38},
        }

    def test_each_image_once_and_five_different_splits(self):
        assert self.table.image.is_unique
        assert list(self.table.columns) == ["image", "0", "1", "2", "3", "4"]
        assert self.table.drop(columns="image").T.duplicated().sum() == 0

    def test_is_what_the_script_makes_of_the_names_in_any_order(self):
        made = self.script["make_table"](self.table.image.sample(frac=1, random_state=0))
        pd.testing.assert_frame_equal(made, self.table, check_dtype=False)

    @pytest.mark.real_data
    def test_knows_every_real_image(self, real_root, caplog):
        samples = make_samples(real_root)
        placed = assign_by_table(samples, DETECTION, 4, require_masks=True)
        assert len(placed) == len(self.table)
        assert "unused" not in set(placed.split)
        assert caplog.text == ""

    @pytest.mark.real_data
    def test_is_what_the_script_writes(self, real_root, tmp_path):
        self.script["write_table"](real_root, tmp_path / "splits.csv")
        assert (tmp_path / "splits.csv").read_bytes() == DETECTION.read_bytes()
