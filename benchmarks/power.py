"""Compute how likely the paired tests of a benchmark find a true difference of AUROC.

    python benchmarks/power.py docs/benchmarks/dissertation_cpu/comparisons.csv --difference 0.1

For each pair of systems the standard error and the degrees of freedom are recovered from the interval and the p value
in the table. The power is that of a t test with these at 0.05, uncorrected and divided by the number of pairs on the
same data set, for which the table's p values are corrected. Prints mean and median over the pairs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from jsonargparse import ArgumentParser
from scipy.optimize import brentq
from scipy.stats import nct, t

LEVEL, COVERAGE = 0.05, 0.975
FEWEST, MOST = 1.05, 1e6
"""Degrees of freedom that are looked for."""


def degrees_of_freedom(difference: float, half_width: float, p: float) -> float:
    """Return the degrees of freedom with which an interval and a p value agree.

    Args:
        difference: Measured difference.
        half_width: Half the width of its 95 % interval.
        p: p value of the two-sided t test.

    Returns:
        The degrees of freedom; NaN where none fit, as for a difference of 0.

    Example:
        >>> round(degrees_of_freedom(0.1, 2.228 * 0.05, 0.0734), 0)
        10.0
    """

    def excess(log_freedom: float) -> float:
        freedom = np.exp(log_freedom)
        return float(2 * t.sf(abs(difference) / (half_width / t.ppf(COVERAGE, freedom)), freedom) - p)

    if not difference:
        return float("nan")
    ends = np.log(FEWEST), np.log(MOST)
    return float(np.exp(brentq(excess, *ends))) if excess(ends[0]) * excess(ends[1]) < 0 else float("nan")


def power(wanted: float, half_width: float, freedom: float, level: float) -> float:
    """Return the probability that a two-sided t test finds a true difference.

    Args:
        wanted: True difference.
        half_width: Half the width of the 95 % interval.
        freedom: Degrees of freedom.
        level: Significance level.

    Returns:
        A probability.

    Example:
        >>> round(power(0.0, 0.1, 30.0, 0.05), 3)
        0.05
    """
    error = half_width / t.ppf(COVERAGE, freedom)
    bound = t.ppf(1 - level / 2, freedom)
    return float(nct.sf(bound, freedom, wanted / error) + nct.cdf(-bound, freedom, wanted / error))


def main() -> None:
    """Print the power of the tests of a table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("comparisons", type=Path, help="comparisons.csv of a benchmark")
    parser.add_argument("--difference", type=float, default=0.1, help="true difference of AUROC")
    args = parser.parse_args()
    table = pd.read_csv(args.comparisons)
    table = table[(table["weights"] == "best") & table["shift"].isna() & table["p"].notna()]
    half_widths = (table["high"] - table["low"]) / 2
    freedoms = [degrees_of_freedom(*row) for row in zip(table["difference"], half_widths, table["p"], strict=True)]
    pairs = table.groupby("data")["p"].transform("size")
    numbers = ", ".join(map(str, sorted(set(pairs))))
    for name, levels in (("uncorrected", [LEVEL] * len(table)), (f"corrected for {numbers} pairs", LEVEL / pairs)):
        found = [
            power(args.difference, half_width, freedom, level)
            for half_width, freedom, level in zip(half_widths, freedoms, levels, strict=True)
            if np.isfinite(freedom)
        ]
        sys.stdout.write(f"{name}: mean {np.mean(found):.3f}, median {np.median(found):.3f} of {len(found)} pairs\n")


if __name__ == "__main__":
    main()
