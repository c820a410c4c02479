"""The splits: disjoint, seeded, stratified, complete; tables stand for files, and counts are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.splits import assign_splits, describe_splits, hold_out, leave_hospital_out
from anomalib_cxr.errors import DatasetError


def table(folder="root", **hospitals):
    """Make a table of hospitals, each with so many masked normal, unmasked normal, and sick images."""
    rows = [
        {
            "image_path": f"{folder}/{source}_{label}_{masked}_{index:04d}.png",
            "label_index": label,
            "roi_mask_paths": ("mask.png",) if masked else (),
            "source": source,
            "split": "unused",
        }
        for source, counts in hospitals.items()
        for (label, masked), count in zip(((0, 1), (0, 0), (1, 1)), counts, strict=True)
        for index in range(count)
    ]
    return pd.DataFrame(rows)


def names(samples, split):
    return {Path(path).name for path in samples.image_path[samples.split == split]}


def all_names(samples):
    return {split: names(samples, split) for split in ("train", "val", "test", "unused")}


def counts(samples, split):
    """Count masked normal, unmasked normal, and sick images of a split."""
    chosen = samples[samples.split == split]
    masked = chosen.roi_mask_paths.map(len) > 0
    normal = chosen.label_index == 0
    return int((normal & masked).sum()), int((normal & ~masked).sum()), int((~normal).sum())


TWO = table(montgomery=(60, 0, 40), shenzhen=(200, 30, 150))


class TestHoldout:
    samples = assign_splits(TWO, "holdout", 0, require_masks=True)

    def test_every_image_is_in_one_split(self):
        assert sorted(self.samples.image_path) == sorted(TWO.image_path)
        assert set(self.samples.split) == {"train", "val", "test"}

    @pytest.mark.parametrize(
        ("source", "train", "val", "test"),
        [
            ("montgomery", (42, 0, 0), (6, 0, 6), (12, 0, 34)),
            ("shenzhen", (140, 0, 0), (20, 0, 20), (40, 30, 130)),
        ],
    )
    def test_proportions_in_each_hospital(self, source, train, val, test):
        hospital = self.samples[self.samples.source == source]
        assert counts(hospital, "train") == train
        assert counts(hospital, "val") == val
        assert counts(hospital, "test") == test

    def test_the_table_given_is_left_alone(self):
        assert set(TWO.split) == {"unused"}

    def test_optional_masks_let_unmasked_ones_train(self):
        samples = assign_splits(TWO, "holdout", 0, require_masks=False)
        shenzhen = samples[samples.source == "shenzhen"]
        assert sum(counts(shenzhen, "train")) == 161  # 230 normal, of which 23 validate and 46 test
        assert counts(shenzhen, "train")[1] > 0

    def test_three_normal_and_two_sick_suffice(self):
        samples = assign_splits(table(montgomery=(3, 0, 2)), "holdout", 0, require_masks=True)
        assert [counts(samples, split) for split in ("train", "val", "test")] == [(1, 0, 0), (1, 0, 1), (1, 0, 1)]


class TestDissertation:
    samples = assign_splits(TWO, "dissertation", 0, require_masks=True)

    def test_nine_to_one_and_as_many_sick_as_normal_validate(self):
        assert counts(self.samples, "train") == (234, 0, 0)
        assert counts(self.samples, "val") == (26, 0, 26)
        assert counts(self.samples, "test") == (0, 0, 0)

    def test_the_rest_is_unused(self):
        assert counts(self.samples, "unused") == (0, 30, 164)

    def test_stratified_by_hospital(self):
        montgomery = self.samples[self.samples.source == "montgomery"]
        assert counts(montgomery, "val") == (6, 0, 6)


@pytest.mark.parametrize("protocol", ["holdout", "dissertation"])
class TestDraw:
    def split(self, protocol, samples=TWO, seed=0):
        return all_names(assign_splits(samples, protocol, seed, require_masks=True))

    def test_the_same_seed_draws_the_same(self, protocol):
        assert self.split(protocol) == self.split(protocol)

    def test_another_seed_draws_otherwise(self, protocol):
        one, other = self.split(protocol)["val"], self.split(protocol, seed=1)["val"]
        assert len(one & other) < len(one) / 2

    def test_the_order_of_the_table_does_not_matter(self, protocol):
        shuffled = TWO.sample(frac=1, random_state=1)
        assert self.split(protocol, shuffled) == self.split(protocol)

    def test_the_folder_does_not_matter(self, protocol):
        moved = table("z/elsewhere", shenzhen=(200, 30, 150), montgomery=(60, 0, 40))
        assert self.split(protocol, moved) == self.split(protocol)

    def test_other_hospitals_do_not_matter(self, protocol):
        alone = self.split(protocol, TWO[TWO.source == "shenzhen"])
        both = self.split(protocol)
        assert alone == {
            split: {name for name in chosen if name.startswith("shenzhen")} for split, chosen in both.items()
        }

    def test_an_image_is_drawn_as_often_as_any_other(self, protocol):
        samples = table(montgomery=(20, 0, 10))
        drawn = [name for seed in range(200) for name in self.split(protocol, samples, seed)["val"]]
        normal = pd.Series([name for name in drawn if "_0_" in name]).value_counts()
        assert len(normal) == 20
        # 200 draws of 2 in 20: 20 expected, standard deviation 4.2
        assert normal.between(3, 37).all()


class TestTooFew:
    @pytest.mark.parametrize(
        ("protocol", "hospital", "found"),
        [
            ("holdout", (2, 0, 9), "montgomery has 2 normal to train on and 9 sick, needed are 3 and 2"),
            ("holdout", (9, 0, 1), "montgomery has 9 normal to train on and 1 sick, needed are 3 and 2"),
            ("holdout", (60, 0, 6), "montgomery has 60 normal to train on and 6 sick, needed are 3 and 7"),
            ("holdout", (0, 9, 9), "montgomery has 0 normal to train on and 9 sick, needed are 3 and 2"),
            ("dissertation", (1, 0, 9), "montgomery has 1 normal to train on and 9 sick, needed are 2 and 1"),
            ("dissertation", (60, 0, 5), "montgomery has 60 normal to train on and 5 sick, needed are 2 and 6"),
        ],
    )
    def test_how_many_there_are_and_how_many_are_needed(self, protocol, hospital, found):
        with pytest.raises(DatasetError, match=f"too few images for protocol '{protocol}': {found}"):
            assign_splits(table(montgomery=hospital), protocol, 0, require_masks=True)

    def test_only_the_lacking_hospitals_are_named(self):
        with pytest.raises(DatasetError, match=r"': montgomery has 2 normal [^;]*; phantom has 0 normal") as caught:
            assign_splits(
                table(montgomery=(2, 0, 9), shenzhen=(9, 0, 9), phantom=(0, 0, 9)), "holdout", 0, require_masks=True
            )
        assert "shenzhen" not in str(caught.value)

    def test_none_is_left(self):
        with pytest.raises(DatasetError, match=r"too few images .* none is left"):
            assign_splits(TWO[:0], "holdout", 0, require_masks=True)

    @pytest.mark.parametrize("protocol", ["holdout", "dissertation"])
    @pytest.mark.parametrize("normal", [3, 4, 5, 14, 15, 16, 24, 25, 26, 59])
    def test_what_is_said_to_suffice_fills_all_splits(self, protocol, normal):
        for sick in range(10):
            try:
                samples = assign_splits(table(phantom=(normal, 0, sick)), protocol, 0, require_masks=True)
            except DatasetError:
                continue
            n_train, n_val = counts(samples, "train"), counts(samples, "val")
            assert n_train[0] >= 1
            assert n_val[0] == n_val[2] >= 1
            if protocol == "holdout":
                assert min(counts(samples, "test")[::2]) >= 1


class TestDescription:
    def test_one_short_line_per_hospital(self):
        assert describe_splits(assign_splits(TWO, "holdout", 0, require_masks=True)).splitlines() == [
            "montgomery: train 42 normal; val 6 normal + 6 sick; test 12 normal + 34 sick; unused 0",
            "shenzhen: train 140 normal; val 20 normal + 20 sick; test 70 normal + 130 sick; unused 0",
        ]

    def test_unused(self):
        line = describe_splits(assign_splits(table(phantom=(20, 1, 5)), "dissertation", 0, require_masks=True))
        assert line == "phantom: train 18 normal; val 2 normal + 2 sick; test 0; unused 1 normal + 3 sick"


class TestHoldOut:
    def test_share_of_each_hospital_and_label(self):
        split = hold_out(table(montgomery=(10, 0, 5), shenzhen=(40, 0, 1)), share=0.2, seed=0)
        assert describe_splits(split).splitlines() == [
            "montgomery: train 8 normal + 4 sick; val 0; test 2 normal + 1 sick; unused 0",
            "shenzhen: train 32 normal; val 0; test 8 normal + 1 sick; unused 0",
        ]

    def test_neither_order_nor_folder_nor_other_hospitals_matter(self):
        both = table(montgomery=(10, 0, 5), shenzhen=(40, 0, 10))
        held_out = names(hold_out(both, 0.2, 0), "test")
        assert names(hold_out(both.sample(frac=1, random_state=1), 0.2, 0), "test") == held_out
        alone = names(hold_out(table("elsewhere", shenzhen=(40, 0, 10)), 0.2, 0), "test")
        assert alone == {name for name in held_out if name.startswith("shenzhen")}

    def test_seeds(self):
        samples = table(shenzhen=(40, 0, 10))
        assert names(hold_out(samples, 0.2, 1), "test") != names(hold_out(samples, 0.2, 2), "test")


@pytest.mark.real_data
class TestRealImages:
    @pytest.fixture
    def samples(self, real_root):
        return make_samples(real_root)

    def test_dissertation(self, samples):
        split = assign_splits(samples, "dissertation", 0, require_masks=True)
        assert describe_splits(split).splitlines() == [
            "montgomery: train 59 normal; val 6 normal + 6 sick; test 0; unused 37 sick",
            "shenzhen: train 251 normal; val 28 normal + 28 sick; test 0; unused 259 sick",
        ]
        normal, _, sick = counts(split, "val")
        assert normal == sick
        assert normal in {34, 35}  # a tenth of 344

    def test_holdout(self, samples):
        split = assign_splits(samples, "holdout", 0, require_masks=True)
        assert describe_splits(split).splitlines() == [
            "montgomery: train 46 normal; val 6 normal + 6 sick; test 13 normal + 37 sick; unused 0",
            "shenzhen: train 195 normal; val 28 normal + 28 sick; test 56 normal + 259 sick; unused 0",
        ]


class TestHospitalLeftOut:
    samples = leave_hospital_out(TWO, "montgomery", 0, require_masks=True)

    def test_counts(self):
        """Montgomery's 100 test; of Shenzhen's 200 normal ones with masks a twentieth validates, with all 150 sick."""
        assert counts(self.samples, "train") == (190, 0, 0)
        assert counts(self.samples, "val") == (10, 0, 150)
        assert counts(self.samples, "test") == (60, 0, 40)
        assert counts(self.samples, "unused") == (0, 30, 0)

    def test_nothing_of_the_tested_hospital_trains_or_validates(self):
        assert set(self.samples.source[self.samples.split == "test"]) == {"montgomery"}
        assert set(self.samples.source[self.samples.split != "test"]) == {"shenzhen"}

    def test_the_seed_draws_what_validates(self):
        again, other = (leave_hospital_out(TWO[::-1], "montgomery", seed, require_masks=True) for seed in (0, 1))
        assert all_names(again) == all_names(self.samples)
        assert names(other, "val") != names(self.samples, "val")
        assert names(other, "test") == names(self.samples, "test")

    def test_the_seed_draws_what_trains(self):
        first, other = (leave_hospital_out(TWO, "montgomery", seed, require_masks=True, n_train=100) for seed in (0, 1))
        assert counts(first, "train") == counts(other, "train") == (100, 0, 0)
        assert counts(first, "unused") == (90, 30, 0)
        shared = len(set(names(first, "train")) & set(names(other, "train")))
        assert 30 < shared < 70  # 50 expected, of 100 drawn from 200
        for split in ("val", "test"):
            assert names(first, split) == names(self.samples, split)

    def test_a_smaller_draw_is_part_of_a_greater_one(self):
        small, great = (
            set(names(leave_hospital_out(TWO, "montgomery", 3, require_masks=True, n_train=n_train), "train"))
            for n_train in (60, 120)
        )
        assert len(small) == 60
        assert small < great

    def test_as_many_as_there_are_is_the_default(self):
        samples = leave_hospital_out(TWO, "montgomery", 0, require_masks=True, n_train=190)
        assert all_names(samples) == all_names(self.samples)

    def test_more_than_there_are_to_train_on(self):
        with pytest.raises(DatasetError, match=r"fewer than 191 normal .*: shenzhen has 190\b(?s:.*)lower data.init"):
            leave_hospital_out(TWO, "montgomery", 0, require_masks=True, n_train=191)

    def test_images_without_masks_train_where_none_are_required(self):
        samples = leave_hospital_out(TWO, "montgomery", 0, require_masks=False)
        assert len(names(samples, "train")) == 230 - 12  # the half of 11.5 to the even number
        assert not names(samples, "unused")

    @pytest.mark.parametrize(
        ("samples", "found"),
        [
            (TWO, "none of jsrt"),
            (table(jsrt=(9, 0, 9)), "none of another hospital than jsrt"),
            (
                table(jsrt=(0, 1, 0), a=(1, 9, 1), b=(9, 0, 0)),
                "a has 1 normal and 1 sick, needed are 2 and 1; b has 9 normal and 0 sick, needed are 2 and 1; jsrt",
            ),
        ],
    )
    def test_too_few_images(self, samples, found):
        with pytest.raises(DatasetError, match=f"too few images for protocol 'hospital': {found}"):
            leave_hospital_out(samples, "jsrt", 0, require_masks=True)
