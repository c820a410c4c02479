"""Splits by patient: no patient in two splits, exact numbers, dependent on the seed alone."""

from __future__ import annotations

import pandas as pd
import pytest

from anomalib_cxr.data.sources.nih_splits import PATIENT_SHARES, sample_images, split_by_lists, split_patients
from anomalib_cxr.errors import DatasetError

COUNTS = {"train": 60, "val": 8, "test": 15}


def table(patients=200, images=5):
    """Make a table of patients with so many X-rays each, of which the last two are sick for every second patient."""
    rows = [
        {
            "name": f"{patient:03d}_{number}.png",
            "patient": str(patient),
            "label_index": int(patient % 2 == 0 and number >= images - 2),
        }
        for patient in range(patients)
        for number in range(images)
    ]
    return pd.DataFrame(rows)


ENTRIES = table()


def write_lists(root, tested, trained):
    for name, chosen in {"test_list.txt": tested, "train_val_list.txt": trained}.items():
        (root / name).write_text("\n".join(ENTRIES.name[chosen]))
    return root


def splits_of_patients(splits):
    return splits.groupby(ENTRIES.patient).unique().map(set)


class TestPatients:
    def test_a_patient_is_in_one_split(self):
        splits = split_patients(ENTRIES.patient, PATIENT_SHARES, 0)
        assert splits_of_patients(splits).map(len).eq(1).all()

    def test_tenth_and_two_tenths_of_the_patients(self):
        splits = split_patients(ENTRIES.patient, PATIENT_SHARES, 0)
        assert ENTRIES.patient.groupby(splits).nunique().to_dict() == {"train": 140, "val": 20, "test": 40}

    def test_seeds(self):
        assert split_patients(ENTRIES.patient, PATIENT_SHARES, 1).equals(
            split_patients(ENTRIES.patient, PATIENT_SHARES, 1)
        )
        assert not split_patients(ENTRIES.patient, PATIENT_SHARES, 1).equals(
            split_patients(ENTRIES.patient, PATIENT_SHARES, 2)
        )

    def test_the_order_of_the_table_and_the_images_of_a_patient_do_not_matter(self):
        splits = split_patients(ENTRIES.patient, PATIENT_SHARES, 0)
        shuffled = ENTRIES.sample(frac=1, random_state=0).drop_duplicates("patient")
        assert split_patients(shuffled.patient, PATIENT_SHARES, 0).equals(splits[shuffled.index])

    def test_each_patient_as_often_as_any_other(self):
        patients = pd.Series([str(number) for number in range(20)])
        tests = sum(split_patients(patients, {"test": 0.25}, seed) == "test" for seed in range(400))
        # 400 deals of 5 in 20: 100 expected, standard deviation 8.7
        assert tests.between(65, 135).all()


class TestLists:
    TESTED = ENTRIES.patient.astype(int) < 20

    def test_patients_of_the_test_list_test(self, tmp_path):
        splits = split_by_lists(ENTRIES, write_lists(tmp_path, self.TESTED, ~self.TESTED), 0)
        assert (splits == "test").equals(self.TESTED)
        assert splits_of_patients(splits).map(len).eq(1).all()

    def test_a_tenth_of_the_others_validates(self, tmp_path):
        root = write_lists(tmp_path, self.TESTED, ~self.TESTED)
        splits = [split_by_lists(ENTRIES, root, seed) for seed in (0, 0, 1)]
        assert ENTRIES.patient.groupby(splits[0]).nunique().to_dict() == {"train": 162, "val": 18, "test": 20}
        assert splits[0].equals(splits[1])
        assert not splits[0].equals(splits[2])

    def test_x_rays_in_no_list_are_unused(self, tmp_path):
        rest = ENTRIES.patient.astype(int) >= 190
        splits = split_by_lists(ENTRIES, write_lists(tmp_path, self.TESTED, ~self.TESTED & ~rest), 0)
        assert (splits == "unused").equals(rest)

    def test_a_patient_in_both_lists(self, tmp_path):
        trained = ~self.TESTED | ENTRIES.name.isin(["003_1.png", "007_0.png"])
        tested = self.TESTED & ~ENTRIES.name.isin(["003_1.png"])  # one patient by an own X-ray, one by the same
        with pytest.raises(
            DatasetError, match=r"test_list.txt and train_val_list.txt in .* with 2 patients in both"
        ) as caught:
            split_by_lists(ENTRIES, write_lists(tmp_path, tested, trained), 0)
        (named,) = caught.value.offenders.values()
        assert {str(path)[:3] for path in named} == {"003", "007"}


class TestImages:
    PATIENT_SPLITS = split_patients(ENTRIES.patient, PATIENT_SHARES, 0)

    def sample(self, counts, seed=0):
        return sample_images(ENTRIES, self.PATIENT_SPLITS, counts, seed)

    def test_exact_numbers(self):
        split = self.sample(COUNTS)
        counts = ENTRIES.label_index.groupby(split).value_counts().to_dict()
        assert counts.pop(("unused", 0)) > 0
        assert counts.pop(("unused", 1)) > 0
        assert counts == {("train", 0): 60, ("val", 0): 8, ("val", 1): 8, ("test", 0): 15, ("test", 1): 15}

    def test_only_x_rays_of_the_split_s_own_patients(self):
        split = self.sample(COUNTS)
        used = split != "unused"
        assert (split == self.PATIENT_SPLITS)[used].all()

    def test_null_takes_all(self):
        split = self.sample(dict.fromkeys(COUNTS))
        unused = split == "unused"
        assert unused.equals((self.PATIENT_SPLITS == "train") & (ENTRIES.label_index == 1))

    def test_a_split_that_is_not_asked_for_stays_unused_and_changes_no_other(self):
        without = self.sample({"train": 60, "test": 15})
        assert "val" not in set(without)
        assert without.equals(self.sample(COUNTS).replace("val", "unused"))

    def test_seeds(self):
        assert self.sample(COUNTS, 1).equals(self.sample(COUNTS, 1))
        assert not self.sample(COUNTS, 1).equals(self.sample(COUNTS, 2))

    def test_all_that_lack_at_once(self):
        with pytest.raises(DatasetError, match="too few X-rays for the draw") as caught:
            self.sample({"train": 1000, "val": 8, "test": 1200})
        healthy = ENTRIES[ENTRIES.label_index == 0]
        groups = self.PATIENT_SPLITS[healthy.index]
        training, testing = (healthy[groups == name] for name in ("train", "test"))
        assert f"train has {len(training)} healthy of 140 patients, asked for are 1,000;" in caught.value.found
        assert f"test has {len(testing)} healthy of 40 patients, asked for are 1,200;" in caught.value.found
        assert "sick of" in caught.value.found
        assert "val has" not in caught.value.found
        assert "data.init_args.n_train" in caught.value.next_step

    def test_none_where_all_are_asked_for(self):
        healthy = ENTRIES[ENTRIES.label_index == 0]
        with pytest.raises(DatasetError, match="test has 0 sick of 0 patients, asked for are any"):
            sample_images(healthy, self.PATIENT_SPLITS[healthy.index], {"test": None}, 0)
