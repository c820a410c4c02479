"""Report of a calibration study, as a reader of the page and of the tables gets it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from anomalib_cxr.screening.study.report import write_study
from anomalib_cxr.screening.study.thresholds import Place

pytestmark = pytest.mark.slow
PLACE = Place(0.1)


@pytest.fixture
def scored():
    """Three images of each of 40 patients; the first 15 are sick."""
    patients = np.arange(120) // 3
    is_sick = patients < 15
    scores = np.round(np.random.default_rng(0).uniform(0, 0.6, 120) + 0.3 * is_sick, 3)
    return pd.DataFrame(
        {"is_sick": is_sick, "score": scores, "hospital": "a", "view": "PA", "sex": "", "age": np.nan}
    ).assign(patient=patients.astype(str), sex=np.where(patients % 2, "F", "M"))


def test_patients_are_counted(scored, calibration, tmp_path):
    page = " ".join(write_study(tmp_path, scored, calibration, PLACE).read_text().split())
    assert "of 25 normal and 15 sick patients. Patients are counted" in page
    table = pd.read_csv(tmp_path / "thresholds.csv")
    sick = scored[scored.is_sick].groupby("patient").score.min()
    normal = scored[~scored.is_sick].groupby("patient").score.max()
    for row in table.itertuples():
        assert row.sensitivity == pytest.approx((sick >= row.threshold).mean())
        assert row.specificity == pytest.approx((normal < row.threshold).mean())
    groups = pd.read_csv(tmp_path / "groups.csv")
    assert groups[groups.rate == "sensitivity"].n.sum() == 15
    assert "2 rates of fewer than 10 patients are not shown" in page  # eight and seven sick ones
    assert len(re.findall("<td>sex</td>", page)) == 2


def test_the_calibrated_threshold_has_its_row(scored, calibration, tmp_path):
    """Counted by hand, in the page that a reader opens."""
    page = " ".join(write_study(tmp_path, scored, calibration, PLACE).read_text().split())
    table = page.split("At the calibrated threshold</h2>")[1].split("</table>")[0]
    cells = re.findall("<td>(.*?)</td>", table)
    sick = scored[scored.is_sick].groupby("patient").score.min()
    normal = scored[~scored.is_sick].groupby("patient").score.max()
    missed, read = (sick < calibration.label_threshold).mean(), (normal >= calibration.label_threshold).mean()
    assert cells[0] == f"{calibration.label_threshold:.4g}"
    assert cells[1].startswith(f"{100 * (1 - missed):.1f} % (")
    assert cells[2].startswith(f"{100 * (1 - read):.1f} % (")
    assert cells[5] == f"{1000 * (0.1 * (1 - missed) + 0.9 * read):.0f}"
    assert cells[6] == f"{100 * missed:.1f}"


def test_images_are_counted_where_patients_are_unknown(scored, calibration, tmp_path):
    page = write_study(tmp_path, scored.drop(columns="patient"), calibration, PLACE).read_text()
    assert "the intervals are too narrow if patients have several" in " ".join(page.split())
    assert "Patients are counted" not in page
    groups = pd.read_csv(tmp_path / "groups.csv")
    assert groups[groups.rate == "sensitivity"].n.sum() == 45
