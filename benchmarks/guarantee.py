"""How often the guarantee of a calibration holds on real scores.

    python benchmarks/guarantee.py results/benchmark/detection/runs/montgomery_shenzhen/lung_atlas/*/scores.csv

Takes the test scores of benchmark runs. Many times, half of the sick images at random choose the threshold and the
other half measures its sensitivity, with half of the normal ones each. Writes `guarantee.csv` and `guarantee.json`.
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
    """Split numbers into two halves at random."""
    order = rng.permutation(count)
    return order[: count // 2], order[count // 2 :]


def draw(sick: np.ndarray, normal: np.ndarray, wish: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return sensitivity and specificity on one half, of the threshold that the other half chose."""
    (chosen, measured), (normal_chosen, normal_measured) = halves(len(sick), rng), halves(len(normal), rng)
    scores = np.concatenate([sick[chosen], normal[normal_chosen]])
    is_sick = np.arange(len(scores)) < len(chosen)
    threshold = calibrate_threshold(is_sick, scores, wish, CONFIDENCE).threshold
    return float((sick[measured] >= threshold).mean()), float((normal[normal_measured] < threshold).mean())


def falls_short_at_most(n_sick: int, wish: float) -> float:
    """Return how often exchangeable scores without ties would fall short in the measured half."""
    chosen, measured = n_sick // 2, n_sick - n_sick // 2
    missed = misses_allowed(chosen, wish, CONFIDENCE) or 0
    # More than (1 - wish) of the measured half lie under the chosen half's (missed + 1)-th lowest exactly if, of the
    # lowest missed + least images of all, no more than `missed` are in the chosen half.
    least = int(np.floor((1 - wish) * measured + 1e-9)) + 1
    return float(hypergeom(n_sick, chosen, missed + least).cdf(missed))


def main() -> None:
    """Measure, print and write."""
    parser = ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("results/guarantee"))
    settings = parser.parse_args()
    rng, rows = np.random.default_rng(0), []
    for table in settings.tables:
        scores = pd.read_csv(table).query("subset == 'test' and weights == 'last'")
        values = scores.score.rank(pct=True)  # any rising function of a score does
        sick, normal = values[scores.label == "sick"].to_numpy(), values[scores.label == "normal"].to_numpy()
        for wish in SENSITIVITIES:
            found = np.array([draw(sick, normal, wish, rng) for _ in range(DRAWS)])
            rows.append({
                "run": table.parent.name, "wish": wish, "sensitivity": found[:, 0].mean(),
                "falls_short": (found[:, 0] < wish).mean(), "expected_to": falls_short_at_most(len(sick), wish),
                "specificity": found[:, 1].mean(), "least": found[:, 1].min(), "greatest": found[:, 1].max(),
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
