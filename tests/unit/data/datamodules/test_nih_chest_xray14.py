"""The data module of NIH ChestX-ray14 on phantoms: its sets, its choices, its refusals."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest
from anomalib import TaskType
from anomalib.data import AnomalibDataModule

from anomalib_cxr import NihChestXray14
from anomalib_cxr.errors import DatasetError, SettingError
from anomalib_cxr.segmentation import prediction

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
        samples = datamodule.make_samples()
        told = pd.read_csv(table_of(nih_root), index_col="Image Index")
        for sample in samples.itertuples():
            row = told.loc[Path(sample.image_path).name]
            healthy = row["Finding Labels"] == "No Finding"
            assert (sample.label, sample.label_index) == (("normal", 0) if healthy else ("abnormal", 1))
            assert (sample.reading, sample.patient) == (row["Finding Labels"], str(row["Patient ID"]))
            assert (sample.age, sample.sex, sample.view) == tuple(
                row[["Patient Age", "Patient Gender", "View Position"]]
            )
            assert (sample.mask_path, sample.roi_mask_paths, sample.source) == ("", (), "nih")
        assert samples.attrs["task"] == TaskType.CLASSIFICATION
        assert len(samples) == 36

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
        with caplog.at_level(logging.INFO, "anomalib_cxr.data"):
            datamodule = fitted(nih_root)
        n_train, n_val, n_test = (table.patient.nunique() for table in tables(datamodule))
        told = f"36 of 80 X-rays drawn, of so many patients: test {n_test}, train {n_train}, val {n_val}"
        assert told in caplog.text
        assert "nih: train 20 normal; val 3 normal + 3 sick; test 5 normal + 5 sick" in caplog.text


class TestChoices:
    def chosen(self, root, **settings):
        return NihChestXray14(root, **{"n_train": None, "n_val": None, "n_test": None, **settings}).list_samples()

    @pytest.mark.parametrize("view", ["PA", "AP"])
    def test_view(self, nih_root, view):
        samples = self.chosen(nih_root, view=view)
        assert set(samples["view"]) == {view}

    def test_only_chosen_findings_are_sick(self, nih_root):
        every = self.chosen(nih_root)
        samples = self.chosen(nih_root, findings=("Infiltration", "Effusion"))
        assert set(samples.reading) == {"No Finding", "Mass|Infiltration", "Infiltration", "Effusion"}
        assert (samples.label_index == 0).sum() == (every.label_index == 0).sum()

    def test_a_patient_is_in_the_same_split_whatever_is_chosen(self, nih_root):
        draws = [
            self.chosen(nih_root, **settings)
            for settings in ({}, {"view": "PA"}, {"view": "AP", "n_train": 12}, {"protocol": "dissertation"})
        ]
        draws[-1].split = draws[-1].split.replace("val", "test")
        assert pd.concat(draws).groupby("patient").split.nunique().eq(1).all()

    def test_nothing_is_left(self, editable, nih_root):
        root = editable(nih_root)
        table = table_of(root)
        table.write_text(table.read_text().replace(",AP,", ",PA,"))
        with pytest.raises(
            DatasetError, match=r"80 X-rays in .*, none of them of view 'AP', and healthy or with Hernia"
        ):
            self.chosen(root, view="AP", findings=("Hernia",))

    def test_no_sick_one_is_left(self, nih_root):
        with pytest.raises(DatasetError, match="val has 0 sick of 0 patients, asked for are any; test has 0 sick"):
            self.chosen(nih_root, findings=("Hernia",))

    @pytest.mark.parametrize(
        ("setting", "found"),
        [
            ({"draw": "lists"}, "draw = 'lists'\n  expected: draw one of dissertation, official"),
            ({"view": "LL"}, "view = 'LL'\n  expected: view one of PA, AP, both"),
            (
                {"n_train": 0, "n_test": -1},
                "n_train = 0, n_test = -1\n  expected: n_train >= 1 and whole, or null, n_test >= 1 and whole, or null",
            ),
            (
                {"findings": ("Pneumona",)},
                r"findings = \('Pneumona',\)\n  expected: findings some of Atelectasis, .*Pneumonia",
            ),
            ({"findings": ()}, r"findings = \(\)"),
            (
                {"protocol": "table", "split_table": "splits.csv"},
                "protocol = 'table'\n  expected: protocol one of holdout, dissertation\n",
            ),
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
        samples = datamodule.list_samples()
        for path in root.glob("images_*/images/*.png"):
            if str(path) not in set(samples.image_path):
                path.write_bytes(b"")
        datamodule.setup("fit")
        assert len(datamodule.train_data) == 20

    def test_nothing_to_train_on_after_skipping(self, editable, nih_root):
        root = editable(nih_root)
        for path in fitted(root).train_data.samples.image_path:
            (root / path).write_bytes(b"")
        with pytest.raises(DatasetError, match="no file that can be used among those drawn for: train normal"):
            NihChestXray14(root, **SMALL, on_error="skip").setup("fit")


class TestMasks:
    @pytest.fixture
    def lungs(self, nih_root, tmp_path):
        """Masks of all X-rays, where a test may change them."""
        return Path(shutil.copytree(nih_root.with_name("lungs"), tmp_path / "lungs"))

    def test_masks_that_are_there_serve(self, nih_root, lungs):
        batch = next(iter(fitted(nih_root, predicted_masks=lungs, train_batch_size=4).train_dataloader()))
        assert batch.roi_mask.shape == (4, 64, 64)
        assert batch.roi_mask.flatten(1).any(1).all()

    def test_none_where_they_are_required(self, nih_root):
        with pytest.raises(DatasetError, match=r"20 X-rays of .* to train on, none of them with a lung mask") as caught:
            fitted(nih_root, masks="required")
        assert "data.init_args.masks: predict" in caught.value.next_step

    def test_only_masked_ones_train_where_they_are_required(self, nih_root, lungs, caplog):
        drawn = fitted(nih_root).train_data.samples
        for path in drawn.image_path.iloc[:3]:
            (lungs / Path(path).name).unlink()
        with caplog.at_level(logging.WARNING):
            datamodule = fitted(nih_root, masks="required", predicted_masks=lungs)
        assert list(datamodule.train_data.samples.image_path) == list(drawn.image_path.iloc[3:])
        assert "Left out: 3 of 20 training X-rays, without a lung mask" in caplog.text

    def test_masks_are_predicted_for_what_is_drawn_alone(self, nih_root, lungs, tmp_path, monkeypatch):
        requested = []
        empty = prediction.Prediction(0, {})
        monkeypatch.setattr(prediction, "predict_masks", lambda images, *_: requested.extend(images) or empty)
        datamodule = NihChestXray14(nih_root, **SMALL, masks="predict", segmenter="lungs.pt", predicted_masks=lungs)
        drawn = set(datamodule.list_samples().image_path)
        without = sorted(drawn)[:2]
        for path in without:
            (lungs / Path(path).name).unlink()
        datamodule.prepare_data()
        assert sorted(requested) == without
