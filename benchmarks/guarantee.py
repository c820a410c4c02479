"""Measure how often the sensitivity guarantee of a calibration holds on real scores.

    python benchmarks/guarantee.py results/benchmark/detection/runs/montgomery_shenzhen/lung_atlas/*/scores.csv

Takes the test scores of benchmark runs. Repeatedly, the threshold is calibrated on a random half of the sick and normal
images, and its sensitivity and specificity are measured on the other half. Writes `guarantee.csv` and
`guarantee.json`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from jsonargparse import ArgumentParser
from scipy.stats import hypergeom

from anomalib_cxr.screening.calibration.threshold import calibrate_threshold, misses_allowed
from anomalib_cxr.utils.provenance import code_record, write_record

SENSITIVITIES = (0.90, 0.95, 0.97)
CONFIDENCE = 0.95
DRAWS = 1000


def halves(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split the indices below a count into two random halves.

    Args:
        count: Number of indices.
        rng: Random generator.

    Returns:
        Two arrays of indices.
    """
    order = rng.permutation(count)
    return order[: count // 2], order[count // 2 :]


def measure_split(sick: np.ndarray, normal: np.ndarray, target: float, rng: np.random.Generator) -> tuple[float, float]:
    """Calibrate a threshold on a random half of the images and measure it on the other half.

    Args:
        sick: Scores of sick images, `(N,)`.
        normal: Scores of normal images, `(M,)`.
        target: Target sensitivity.
        rng: Random generator.

    Returns:
        Sensitivity and specificity.
    """
    (chosen, measured), (normal_chosen, normal_measured) = halves(len(sick), rng), halves(len(normal), rng)
    scores = np.concatenate([sick[chosen], normal[normal_chosen]])
    is_sick = np.arange(len(scores)) < len(chosen)
    threshold = calibrate_threshold(is_sick, scores, target, CONFIDENCE).threshold
    return float((sick[measured] >= threshold).mean()), float((normal[normal_measured] < threshold).mean())


def expected_below_target(n_sick: int, target: float) -> float:
    """Return the probability that the sensitivity on the measured half is below the target.

    Args:
        n_sick: Number of sick images, with exchangeable scores without ties.
        target: Target sensitivity.

    Returns:
        The probability.
    """
    chosen, measured = n_sick // 2, n_sick - n_sick // 2
    missed = misses_allowed(chosen, target, CONFIDENCE) or 0
    # More than (1 - target) of the measured half lie below the (missed + 1)-th lowest of the calibration half exactly
    # if at most `missed` of the lowest missed + least images of all are in the calibration half.
    least = int(np.floor((1 - target) * measured + 1e-9)) + 1
    return float(hypergeom(n_sick, chosen, missed + least).cdf(missed))


def main() -> None:
    """Measure the guarantee on each table of scores, and write the results."""
    parser = ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("results/guarantee"))
    settings = parser.parse_args()
    rng, rows = np.random.default_rng(0), []
    for table in settings.tables:
        scores = pd.read_csv(table).query("subset == 'test' and weights == 'last'")
        values = scores.score.rank(pct=True)  # only the order of scores matters
        sick, normal = values[scores.label == "sick"].to_numpy(), values[scores.label == "normal"].to_numpy()
        for target in SENSITIVITIES:
            rates = np.array([measure_split(sick, normal, target, rng) for _ in range(DRAWS)])
            rows.append({
                "run": table.parent.name, "target": target, "sensitivity": rates[:, 0].mean(),
                "below_target": (rates[:, 0] < target).mean(), "expected": expected_below_target(len(sick), target),
                "specificity": rates[:, 1].mean(), "smallest": rates[:, 1].min(), "largest": rates[:, 1].max(),
            })  # fmt: skip
    settings.output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(settings.output / "guarantee.csv", index=False, float_format="%.4f")
    write_record(
        {**code_record(), "draws": DRAWS, "confidence": CONFIDENCE, "rows": rows}, settings.output / "guarantee.json"
    )
    print(table.round(3).to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    main()
