"""Splits by patient: disjoint, stratified, the same for the same patients, and the numbers that are asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomalib_cxr.data.sources.patient_splits import split_by_patient, splits_table

SHARES = {"val": 0.1, "test": 0.2}


def people(count, source="here", view="PA", label=0, images=1, prefix="p"):
    """Return X-rays of some patients, each with as many."""
    names = np.repeat([f"{prefix}{number:04d}" for number in range(count)], images)
    return pd.DataFrame({"source": source, "patient": names, "view": view, "label_index": label, "split": ""})


def joined(*tables):
    return pd.concat(tables, ignore_index=True)


def split(samples, seed=0, shares=SHARES):
    return samples.assign(split=split_by_patient(samples, shares, seed))


def test_a_patient_is_in_one_split():
    samples = split(joined(people(50, images=4), people(20, label=1, images=3, prefix="s")))
    assert samples.groupby("patient").split.nunique().max() == 1


@pytest.mark.parametrize("count", [10, 60, 61, 997])
def test_shares_of_the_patients(count):
    counts = split(people(count)).split.value_counts()
    assert abs(counts["val"] - 0.1 * count) <= 1
    assert abs(counts["test"] - 0.2 * count) <= 1
    assert counts.sum() == count


def test_stratified_by_hospital_and_view():
    strata = {("north", "PA"): 200, ("north", "AP"): 40, ("south", ""): 100}
    samples = split(
        joined(*(people(count, *place, prefix=f"{place}") for place, count in strata.items())), shares=SHARES
    )
    for (source, view), count in strata.items():
        counts = samples[(samples.source == source) & (samples["view"] == view)].split.value_counts()
        assert abs(counts["val"] - 0.1 * count) <= 1
        assert abs(counts["test"] - 0.2 * count) <= 1


def test_splits_of_a_hospital_do_not_depend_on_others_nor_on_the_order():
    north, south = people(40, "north"), people(40, "south", prefix="q")
    alone = split(north).set_index("patient").split
    shuffled = joined(south, north).sample(frac=1, random_state=1).reset_index(drop=True)
    together = split(shuffled).set_index("patient").split
    pd.testing.assert_series_equal(together.loc[alone.index], alone)


def test_seeds_differ():
    samples = people(100)
    assert set(split(samples, 1).split) == set(split(samples, 0).split)
    assert not split(samples, 0).split.equals(split(samples, 1).split)


def test_as_many_abnormal_ones_validate_as_healthy_ones():
    samples = split(joined(people(100), people(60, label=1, prefix="s")))
    counts = samples.groupby(["split", "label_index"]).size()
    assert counts["val", 0] == counts["val", 1] == 10
    assert counts["test", 1] == 50
    assert ("train", 1) not in counts


def test_at_most_half_of_few_abnormal_ones_validate():
    samples = split(joined(people(100), people(4, label=1, prefix="s")))
    assert samples[samples.label_index == 1].split.value_counts().to_dict() == {"val": 2, "test": 2}


def test_abnormal_xrays_of_those_who_train_stay_unused():
    both = joined(people(100), people(100, label=1))  # the same patients
    samples = split(both)
    training = samples[samples.label_index == 0].set_index("patient").split == "train"
    sick = samples[samples.label_index == 1].set_index("patient").split
    assert (sick[training] == "unused").all()
    assert set(sick[~training]) == {"val", "test"}


def test_a_given_split_holds_for_the_whole_patient():
    samples = joined(people(20), people(3).assign(split="test"))
    named = split(samples).groupby("patient").split.unique()
    assert [list(named[f"p000{number}"]) for number in range(3)] == [["test"]] * 3


def test_no_test_without_its_share():
    assert set(split(people(30), shares={"val": 0.1}).split) == {"train", "val"}


def test_table_counts_xrays_and_patients():
    samples = split(joined(people(50, images=2), people(10, view="", label=1, prefix="s")))
    lines = splits_table(samples).splitlines()
    counts = samples.groupby(["split", "label_index"])
    assert lines[-1].split() == ["patients", *map(str, _in_order(counts.patient.nunique()))]
    healthy = next(line for line in lines if " PA " in line).split()
    assert list(map(int, healthy[-5:])) == [*(counts.size()[name, 0] for name in ("train", "val")), 0, 20, 0]
    assert "unknown" in "".join(lines)


def _in_order(counts):
    columns = [("train", 0), ("val", 0), ("val", 1), ("test", 0), ("test", 1)]
    return [counts[column] for column in columns]
