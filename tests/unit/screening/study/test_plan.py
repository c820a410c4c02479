"""Plan of a collection, against the binomial distribution."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from anomalib_cxr.cli import main
from anomalib_cxr.screening.calibration.groups import CalibrationTarget
from anomalib_cxr.screening.calibration.threshold import sick_needed
from anomalib_cxr.screening.study.plan import collection_plan, describe_plan


@pytest.mark.parametrize("target", [CalibrationTarget(0.95, 0.95, 0.1), CalibrationTarget(0.9, 0.8, 0.02)])
def test_numbers(target):
    """One fewer of each would not do."""
    plan = collection_plan(target)
    assert plan.sick.iloc[0] == sick_needed(target.sensitivity, target.confidence)
    for row in plan.itertuples():
        error = 1 - target.confidence
        assert binom.cdf(row.missed, row.sick, 1 - target.sensitivity) <= error + 1e-9
        assert binom.cdf(row.missed, row.sick - 1, 1 - target.sensitivity) > error
        assert binom.sf(row.sick - 1, row.people, target.prevalence) >= target.confidence
        assert binom.sf(row.sick - 1, row.people - 1, target.prevalence) < target.confidence


def test_command(capsys, caplog):
    caplog.set_level("INFO")
    main(["plan", "--sensitivity", "0.95", "--prevalence", "0.1"])
    assert describe_plan(CalibrationTarget(0.95, 0.95, 0.1)) in caplog.text
    with pytest.raises(SystemExit, match="1"):
        main(["plan", "--sensitivity", "1"])
    assert "sensitivity = 1.0\n" in capsys.readouterr().err
