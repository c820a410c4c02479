"""NIH ChestX-ray14 as a data module: its sets, what it leaves out, what it refuses. The images are phantoms."""

from __future__ import annotations

import logging

import pandas as pd
import pytest
from anomalib import TaskType
from anomalib.data import AnomalibDataModule

from anomalib_cxr import NihChestXray14
from anomalib_cxr.errors import DatasetError, SettingError

SMALL = {"n_train": 20, "n_val": 3, "n_test": 5}
SPLITS = ("train", "val", "test")


def fitted(root, **settings):
    datamodule = NihChestXray14(root, **{**SMALL, **settings})
    datamodule.setup("fit")
    return datamodule


def tables(datamodule):
    return [getattr(datamodule, f"{split}_data").samples for split in SPLITS]


def table_of(root):
    (table,) = root.glob("Data_Entry*.csv")
    return table


class TestSets:
    @pytest.mark.parametrize("draw", ["dissertation", "official"])
    def test_numbers_and_patients(self, nih_root, draw):
        sets = tables(fitted(nih_root, draw=draw))
        assert [table.label_index.value_counts(sort=False).sort_index().tolist() for table in sets] == [
            [20],
            [3, 3],
            [5, 5],
        ]
        patients = [set(table.patient) for table in sets]
        assert len(set.union(*patients)) == sum(map(len, patients))

    def test_the_official_test_patients(self, nih_root):
        _, _, tested = tables(fitted(nih_root, draw="official", n_test=None))
        assert set(tested.patient) == {str(number) for number in range(16, 21)}
        assert len(tested) == 20

    @pytest.mark.parametrize("draw", ["dissertation", "official"])
    def test_protocol_dissertation_validates_on_the_same_test_set(self, nih_root, draw):
        train, val, test = tables(fitted(nih_root, draw=draw, protocol="dissertation"))
        honest_train, _, honest_test = tables(fitted(nih_root, draw=draw))
        assert list(val.image_path) == list(test.image_path) == list(honest_test.image_path)
        assert list(train.image_path) == list(honest_train.image_path)

    def test_columns(self, nih_root):
        datamodule = NihChestXray14(nih_root, **SMALL)
        samples = datamodule.make_samples().set_index("image_path")
        row = samples.loc[str(nih_root / "images_001/images/00000001_001.png")]
        told = pd.read_csv(table_of(nih_root), index_col="Image Index").loc["00000001_001.png"]
        assert row.reading == told["Finding Labels"] != "No Finding"
        assert (row.label, row.label_index, row.source, row.patient) == ("abnormal", 1, "nih", "1")
        assert (row.age, row.sex, row["view"]) == (31.0, "M", "AP")
        assert (row.mask_path, row.roi_mask_paths) == ("", ())
        assert samples.attrs["task"] == TaskType.CLASSIFICATION
        assert len(samples) == 80
        assert (samples.label_index == 0).equals(samples.reading == "No Finding")

    def test_batches(self, nih_root):
        datamodule = fitted(nih_root, train_batch_size=4)
        batch = next(iter(datamodule.train_dataloader()))
        assert batch.image.shape == (4, 3, 64, 64)
        assert batch.roi_mask is None
        assert not batch.gt_label.any()
        assert next(iter(datamodule.test_dataloader())).gt_label.sum() == 5

    def test_from_a_configuration(self, tmp_path, nih_root):
        (tmp_path / "data.yaml").write_text(f"""
class_path: anomalib_cxr.NihChestXray14
init_args:
  root: {nih_root}
  draw: official
  findings: [Effusion, Infiltration]
  view: AP
  n_train: null
  n_val: null
  n_test: null
  train_batch_size: 3
""")
        datamodule = AnomalibDataModule.from_config(tmp_path / "data.yaml")
        assert (datamodule.findings, datamodule.n_train) == (("Effusion", "Infiltration"), None)
        datamodule.setup("fit")
        assert len(next(iter(datamodule.train_dataloader())).image) == 3

    def test_what_went_where_is_logged(self, nih_root, caplog):
        with caplog.at_level(logging.INFO, "anomalib_cxr.data.datamodule"):
            fitted(nih_root)
        told = "nih: train 20 normal; val 3 normal + 3 sick; test 5 normal + 5 sick; unused 20 normal + 24 sick"
        assert told in caplog.text


class TestChoices:
    def chosen(self, root, **settings):
        return NihChestXray14(root, **{"n_train": 1, "n_val": 1, "n_test": 1, **settings}).draw_samples()

    @pytest.mark.parametrize("view", ["PA", "AP"])
    def test_view(self, nih_root, view):
        samples = self.chosen(nih_root, view=view)
        assert set(samples["view"]) == {view}
        assert len(samples) == 40

    def test_only_chosen_findings_are_sick(self, nih_root):
        samples = self.chosen(nih_root, findings=("Infiltration",), protocol="dissertation")
        sick = samples[samples.label_index == 1]
        assert set(sick.reading) == {"Mass|Infiltration", "Infiltration"}
        assert (samples.label_index == 0).sum() == 48

    def test_a_patient_is_in_the_same_split_whatever_is_chosen(self, nih_root):
        draws = [
            self.chosen(nih_root, **settings)
            for settings in ({}, {"view": "PA"}, {"view": "AP", "n_train": 12}, {"protocol": "dissertation"})
        ]
        draws[-1].split = draws[-1].split.replace("val", "test")
        splits = pd.concat([draw[draw.split != "unused"] for draw in draws]).groupby("patient").split.nunique()
        assert splits.eq(1).all()

    def test_nothing_is_left(self, editable, nih_root):
        root = editable(nih_root)
        table = table_of(root)
        table.write_text(table.read_text().replace(",AP,", ",PA,"))
        with pytest.raises(
            DatasetError, match=r"80 X-rays in .*, none of them of view 'AP', and healthy or with Hernia"
        ):
            self.chosen(root, view="AP", findings=("Hernia",))

    def test_no_sick_one_is_left(self, nih_root):
        with pytest.raises(DatasetError, match="val has 0 sick of 0 patients, asked for are 1; test has 0 sick"):
            self.chosen(nih_root, findings=("Hernia",))

    @pytest.mark.parametrize(
        ("setting", "found"),
        [
            ({"draw": "lists"}, "draw = 'lists'\n  expected: draw one of dissertation, official"),
            ({"view": "LL"}, "view = 'LL'\n  expected: view one of PA, AP, both"),
            ({"n_train": 0, "n_test": -1}, "n_train = 0, n_test = -1\n  expected: n_train >= 1, n_test >= 1"),
            (
                {"findings": ("Pneumona",)},
                r"findings = \('Pneumona',\)\n  expected: findings some of Atelectasis, .*Pneumonia",
            ),
            ({"findings": ()}, r"findings = \(\)"),
        ],
    )
    def test_refused_at_construction(self, setting, found):
        with pytest.raises(SettingError, match=found):
            NihChestXray14("nowhere", **setting)


class TestFiles:
    def missing(self, root, count=3):
        paths = sorted(root.glob("images_002/images/*.png"))[:count]
        for path in paths:
            path.unlink()
        return [path.name for path in paths]

    def test_all_missing_images_at_once(self, editable, nih_root):
        root = editable(nih_root)
        missing = self.missing(root)
        with pytest.raises(DatasetError, match="3 of the 80 images of the table that are in no folder") as caught:
            NihChestXray14(root, **SMALL).setup("fit")
        assert [path.name for path in caught.value.offenders["missing"]] == missing
        assert "data.init_args.on_error to skip" in caught.value.next_step

    def test_missing_images_are_skipped_before_the_draw(self, editable, nih_root, caplog):
        root = editable(nih_root)
        missing = self.missing(root)
        with caplog.at_level(logging.WARNING):
            sets = tables(fitted(root, on_error="skip", n_val=1))
        assert [len(table) for table in sets] == [20, 2, 10]
        assert all(name in caplog.text for name in missing)

    def test_the_patients_of_a_part_of_the_set_are_dealt_as_in_the_whole(self, editable, nih_root):
        whole = fitted(nih_root).test_data.samples
        root = editable(nih_root)
        self.missing(root, count=24)
        parts = fitted(root, on_error="skip", n_train=10, n_val=1, n_test=1)
        assert set(parts.test_data.samples.patient) <= set(whole.patient)

    def test_images_that_the_table_does_not_know(self, editable, nih_root, caplog):
        root = editable(nih_root)
        (root / "images_001/images/99999999_000.png").touch()
        with caplog.at_level(logging.WARNING):
            sets = tables(fitted(root))
        assert "1 images, such as" in caplog.text
        assert "99999999_000.png" in caplog.text
        assert [len(table) for table in sets] == [20, 6, 10]

    def break_drawn(self, root):
        """Break three training images: one empty, one truncated, one with a flipped bit."""
        paths = [root / path for path in fitted(root).train_data.samples.image_path.iloc[:3]]
        contents = [path.read_bytes() for path in paths]
        paths[0].write_bytes(b"")
        paths[1].write_bytes(contents[1][:-100])
        middle = len(contents[2]) // 2
        paths[2].write_bytes(contents[2][:middle] + bytes([contents[2][middle] ^ 1]) + contents[2][middle + 1 :])
        return paths

    def test_drawn_images_are_checked(self, editable, nih_root):
        root = editable(nih_root)
        broken = self.break_drawn(root)
        with pytest.raises(DatasetError, match="3 of 36 X-rays with files that cannot be used") as caught:
            NihChestXray14(root, **SMALL).setup("fit")
        assert {path for paths in caught.value.offenders.values() for path in paths} == set(broken)

    def test_drawn_images_that_are_broken_are_skipped(self, editable, nih_root, caplog):
        root = editable(nih_root)
        broken = self.break_drawn(root)
        with caplog.at_level(logging.WARNING):
            sets = tables(fitted(root, on_error="skip"))
        assert [len(table) for table in sets] == [17, 6, 10]
        assert not {str(path) for path in broken} & set(sets[0].image_path)

    def test_images_that_are_not_drawn_are_not_opened(self, editable, nih_root):
        root = editable(nih_root)
        datamodule = NihChestXray14(root, **SMALL)
        samples = datamodule.draw_samples()
        for path in samples.image_path[samples.split == "unused"]:
            (root / path).write_bytes(b"")
        datamodule.setup("fit")
        assert len(datamodule.train_data) == 20

    def test_nothing_to_train_on_after_skipping(self, editable, nih_root):
        root = editable(nih_root)
        for path in fitted(root).train_data.samples.image_path:
            (root / path).write_bytes(b"")
        with pytest.raises(DatasetError, match="no file that can be used among those drawn for: train normal"):
            NihChestXray14(root, **SMALL, on_error="skip").setup("fit")
