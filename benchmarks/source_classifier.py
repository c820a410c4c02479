"""Measure whether a classifier tells two sources of X-rays apart, before they are mixed in a training or a test.

    python benchmarks/source_classifier.py --table datasets/hospitals/nih_rsna.csv --output results/sources.csv

The table is that of `benchmarks/hospital_tables.py`, whose X-rays all have 224 x 224 pixels. Normal X-rays only, as
many of the larger source as of the smaller one. Features that see no disease: gray values (mean, spread, quantiles,
share of black and white), the border, and the spectrum by spatial frequency, which tells how often an image was
resampled. Gradient boosting and logistic regression, cross-validated by patient; also on images reduced to the 128
pixels that `LungAtlas` sees. An AUROC of 0.5 says that these features do not tell the sources apart, not that nothing
does.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from jsonargparse import auto_cli
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.utils.files import atomic_path

logger = logging.getLogger(__name__)

SIDES = (224, 128)
"""Sides of the images in pixels."""
BANDS, BORDER, FOLDS = 16, 8, 5
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def image_features(gray: npt.NDArray[np.float32]) -> dict[str, float]:
    """Describe an image without regard to what it shows.

    Args:
        gray: Gray values in [0, 1], `(H, W)`.

    Returns:
        Features by name; the name of each begins with its kind, `gray`, `border` or `spectrum`.
    """
    edges = {"top": gray[:BORDER], "bottom": gray[-BORDER:], "left": gray[:, :BORDER], "right": gray[:, -BORDER:]}
    features = {"gray_mean": gray.mean(), "gray_sd": gray.std()}
    features |= {f"gray_q{level}": np.quantile(gray, level) for level in QUANTILES}
    features |= {"gray_black": (gray <= 0).mean(), "gray_white": (gray >= 1).mean()}
    features |= {f"border_{name}_mean": edge.mean() for name, edge in edges.items()}
    features |= {f"border_{name}_sd": edge.std() for name, edge in edges.items()}
    window = np.outer(np.hanning(gray.shape[0]), np.hanning(gray.shape[1]))
    power = np.abs(np.fft.fft2((gray - gray.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in gray.shape), indexing="ij"))
    band = np.minimum((frequency / 0.5 * BANDS).astype(int), BANDS)  # the last one: corners of the spectrum
    energy = np.log([power[band == number].mean() + 1e-12 for number in range(BANDS + 1)])
    features |= {f"spectrum_{number:02d}": value - energy.mean() for number, value in enumerate(energy)}
    return {name: float(value) for name, value in features.items()}


def measure(rows: pd.DataFrame, root: Path, side: int) -> pd.DataFrame:
    """Cross-validate classifiers of the source of images.

    Args:
        rows: `image`, `hospital` and `patient`.
        root: Folder of the images.
        side: Side that they are reduced to.

    Returns:
        `side`, `features` (`all`, or a kind of them), `classifier`, `auroc` and the numbers of images.
    """
    table = pd.DataFrame(
        image_features(antialiased_resize(read_radiograph(root / image)[None], (side, side))[0, 0].numpy())
        for image in rows.image
    )
    first = rows.hospital.min()
    is_other = (rows.hospital != first).to_numpy()
    classifiers = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0, max_iter=100),
    }
    measured = []
    for kind in ("all", "gray", "border", "spectrum"):
        columns = [name for name in table if kind in {"all", name.split("_")[0]}]
        for name, classifier in classifiers.items():
            chances = cross_val_predict(
                classifier,
                table[columns].to_numpy(),
                is_other,
                groups=rows.hospital + "/" + rows.patient.astype(str),
                cv=GroupKFold(FOLDS),
                method="predict_proba",
            )[:, 1]
            auroc = roc_auc_score(is_other, chances)
            measured.append({"side": side, "features": kind, "classifier": name, "auroc": auroc})
    return pd.DataFrame(measured).assign(n_first=(~is_other).sum(), n_other=is_other.sum())


def main(table: Path, output: Path, seed: int = 0) -> None:
    """Measure all features and sides, and write a row for each.

    Args:
        table: CSV file of X-rays with `image`, `label`, `patient` and `hospital`, of two hospitals.
        output: CSV file to write.
        seed: Seed of the sample of the larger source.
    """
    rows = pd.read_csv(table)
    normal = rows[rows.label == "normal"]
    least = normal.hospital.value_counts().min()
    sample = normal.groupby("hospital").sample(least, random_state=seed).reset_index(drop=True)
    measured = pd.concat([measure(sample, table.parent, side) for side in SIDES], ignore_index=True)
    with atomic_path(output) as unfinished:
        measured.to_csv(unfinished, index=False, float_format="%.4f")
    logger.info("\n%s", measured.round(3).to_string(index=False))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    auto_cli(main, as_positional=False)
