"""What a row says of its decision."""

from __future__ import annotations

import pytest

from anomalib_cxr.screening.case import Case, Decision


@pytest.mark.parametrize(
    ("decision", "why", "text"),
    [
        (Decision.BELOW_THRESHOLD, "", "below the calibrated threshold"),
        (Decision.TO_READ, "", "to be read"),
        (Decision.REFUSED, "blank", "refused: blank"),
    ],
)
def test_decision_text(decision, why, text):
    assert Case("/a.png", 1, 1, decision, why=why).decision_text == text
