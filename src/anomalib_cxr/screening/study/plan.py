"""Number of sick people that a calibration needs, computed before any X-ray is collected."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import nbinom

from anomalib_cxr.screening.calibration.groups import CalibrationTarget

from .questions import sick_images_needed


def collection_plan(target: CalibrationTarget) -> pd.DataFrame:
    """Compute how many sick people show a sensitivity, and how many people have to be X-rayed to find them.

    Args:
        target: Guarantee, and prevalence among the people who are X-rayed one after the other.

    Returns:
        Columns `missed` (sick people below the threshold), `sick` (sick people needed, all told) and `people`, among
        whom there are as many sick ones with the confidence of the target.

    Example:
        >>> collection_plan(CalibrationTarget(0.95, 0.95, 0.1)).values.tolist()[:2]
        [[0, 59, 715], [1, 93, 1086]]
    """
    needed = sick_images_needed([target.sensitivity], target.confidence)
    healthy = np.asarray(nbinom.ppf(target.confidence, needed.needed, target.prevalence), int)
    table: pd.DataFrame = pd.DataFrame(
        {"missed": needed.missed, "sick": needed.needed, "people": needed.needed + healthy}
    )
    return table


def describe_plan(target: CalibrationTarget) -> str:
    """Return the plan as text.

    Args:
        target: Guarantee and prevalence.

    Example:
        >>> print(describe_plan(CalibrationTarget(0.95, 0.95, 0.1)).splitlines()[0])
        Sick people to collect for a sensitivity of 0.95 with a confidence of 0.95:
    """
    return (
        f"Sick people to collect for {target}:\n{collection_plan(target).to_string(index=False)}\n"
        "missed: how many of them may score below the threshold. The more, the higher the threshold, and the more "
        "healthy people are below it.\n"
        f"people: to X-ray one after the other, so that there are as many sick ones, with a probability of "
        f"{100 * target.confidence:.4g} %, at a prevalence of {100 * target.prevalence:.4g} %.\n"
        "Thresholds by group need as many in each group. X-rays that the input check refuses do not count: collect "
        "some more."
    )
