"""Known places give known words."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.screening.pipeline.explanation import describe

LUNGS = np.zeros((48, 48))
LUNGS[6:42, 5:20] = LUNGS[6:42, 28:43] = 1


def heat_at(row, column, side=48):
    heat = np.zeros((side, side))
    heat[row, column] = 1
    return heat


@pytest.mark.parametrize(
    ("row", "column", "place"),
    [
        (8, 12, "right lung, upper zone (left in the picture)"),
        (24, 12, "right lung, middle zone (left in the picture)"),
        (40, 12, "right lung, lower zone (left in the picture)"),
        (8, 36, "left lung, upper zone (right in the picture)"),
        (24, 36, "left lung, middle zone (right in the picture)"),
        (40, 36, "left lung, lower zone (right in the picture)"),
    ],
)
def test_place(row, column, place):
    assert describe(0.5, heat_at(row, column), LUNGS).endswith(f"Most unusual: {place}.")


def test_heat_of_another_size():
    found = describe(0.5, heat_at(20, 3, side=24), LUNGS)
    assert "right lung, lower zone" in found


def test_heat_outside_the_lungs_does_not_count():
    heat = heat_at(24, 24) + 0.2 * heat_at(40, 36)
    assert "left lung, lower zone" in describe(0.5, heat, LUNGS)


def test_one_hot_pixel_is_less_than_a_hot_region():
    heat = heat_at(8, 12)
    heat[36:42, 30:40] = 0.9
    assert "left lung, lower zone" in describe(0.5, heat, LUNGS)


def test_no_lungs():
    assert describe(0.5, heat_at(8, 12), np.zeros((48, 48))).endswith("Most unusual: no lung was found.")


@pytest.mark.parametrize(("share", "words"), [(1.0, "100 %"), (0.034, "3 %"), (0.01, "1 %"), (0.0033, "0.3 %")])
def test_share(share, words):
    assert describe(share, heat_at(8, 12), LUNGS).startswith(f"{words} of healthy images score as high.")
