"""How well lungs were found: the Dice coefficient of each image, its mean with an interval, and the worst cases.

Source: L. R. Dice, "Measures of the amount of ecologic association between species", Ecology 1945.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.progress import track
from scipy.stats import bootstrap

from anomalib_cxr.data.radiograph import read_mask, read_radiograph
from anomalib_cxr.segmentation.lungs import are_plausible, find_lungs
from anomalib_cxr.segmentation.network import LungSegmenter

from .figures import BLUE, RED, new_figure
from .intervals import LEVEL, Interval
from .scores import NORMAL, SICK

ALL = "all"
WORST = 12
"""Cases on the sheet."""
_COLUMNS = 4


def measure_dice(segmenter: LungSegmenter, samples: pd.DataFrame) -> pd.DataFrame:
    """Compare the masks that a segmenter would write with the true ones, at each image's own size.

    Args:
        segmenter: A trained segmenter.
        samples: A table from :func:`anomalib_cxr.data.samples.make_samples`, each image with a mask.

    Returns:
        A row per image with the columns `image` (path), `source`, `label` (`normal`, `sick`) and `dice`, in [0, 1]; 0
        where no plausible lungs were found.
    """
    rows = list(zip(samples.image_path, samples.roi_mask_paths, strict=True))
    dice = [_dice_of(segmenter, *row) for row in track(rows, "Measuring Dice", transient=True)]
    labels = np.where(samples.label_index == 1, SICK, NORMAL)
    columns = {"image": samples.image_path, "source": samples.source, "label": labels, "dice": dice}
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def _dice_of(segmenter: LungSegmenter, image: str, masks: tuple[str, ...]) -> float:
    found = find_lungs(segmenter, read_radiograph(image))
    return dice(found, read_mask(*masks).numpy()) if are_plausible(found) else 0.0


def dice(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Return twice the common area over the sum of both areas, by MONAI.

    Args:
        found: A mask, `(H, W)`.
        true: The true one, of the same size, not empty.

    Example:
        >>> dice(np.array([[True, True, False]]), np.array([[False, True, False]]))
        0.666...
    """
    from monai.metrics.meandice import compute_dice  # noqa: PLC0415  # a second that only segmenting is to cost

    first, second = (torch.from_numpy(mask)[None, None].float() for mask in (found, true))
    return float(compute_dice(first, second))


def summarise_dice(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the mean of each hospital and label, of each hospital, and of all, with a 95 % bootstrap interval.

    Args:
        table: As :func:`measure_dice` returns it.
        seed: Seed of the resampling.

    Returns:
        The columns `source`, `label`, `n`, `mean`, `low`, `high`, `least`; the interval is missing for a single image.

    Example:
        >>> table = pd.DataFrame({"source": "a", "label": ["normal", "sick", "sick"], "dice": [0.9, 0.8, 1.0]})
        >>> summarise_dice(table)[["source", "label", "n", "mean"]].to_dict("records")[-1]
        {'source': 'all', 'label': 'all', 'n': 3, 'mean': 0.9}
    """
    rows = []
    for source, label, values in _groups(table):
        mean, least = float(values.mean()), float(values.min())
        group = {"source": source, "label": label, "n": len(values), "mean": mean}
        rows.append({**group, **_interval(values, seed)._asdict(), "least": least})
    summary: pd.DataFrame = pd.DataFrame(rows)
    return summary


class _Group(NamedTuple):
    source: str
    label: str
    values: npt.NDArray[np.float64]


def _groups(table: pd.DataFrame) -> Iterator[_Group]:
    for source, rows in table.groupby("source"):
        for label, part in rows.groupby("label"):
            yield _Group(str(source), str(label), part.dice.to_numpy(dtype=float))
        yield _Group(str(source), ALL, rows.dice.to_numpy(dtype=float))
    yield _Group(ALL, ALL, table.dice.to_numpy(dtype=float))


def _interval(values: npt.NDArray[np.float64], seed: int) -> Interval:
    """Return the interval of a mean, by the bias-corrected bootstrap: Dice has a long tail to the left."""
    if len(values) == 1:
        return Interval(math.nan, math.nan)
    found = bootstrap((values,), np.mean, confidence_level=LEVEL, rng=np.random.default_rng(seed)).confidence_interval
    return Interval(float(found.low), float(found.high))


def worst_lungs(segmenter: LungSegmenter, samples: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw the cases of the least Dice, with the true lungs and those that were found outlined.

    Args:
        segmenter: The segmenter.
        samples: The table that was measured.
        table: What :func:`measure_dice` has returned for it.
    """
    worst = table.nsmallest(WORST, "dice")
    n_rows = math.ceil(len(worst) / _COLUMNS)
    figure = new_figure(3 * _COLUMNS, 3.4 * n_rows + 0.6)
    panels = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, (index, row) in zip(panels, worst.iterrows(), strict=False):
        radiograph = read_radiograph(row.image)
        outlines = {BLUE: read_mask(*samples.roi_mask_paths[index]).numpy(), RED: find_lungs(segmenter, radiograph)}
        panel.imshow(radiograph[0], cmap="gray", vmin=0, vmax=1)
        for colour, mask in outlines.items():
            if mask.any():
                panel.contour(mask, levels=[0.5], colors=colour, linewidths=0.9)
        panel.set_title(f"{Path(row.image).name} ({row.label})\nDice {row.dice:.3f}", fontsize=8)
    figure.suptitle("Held-out images of the least Dice: true lungs blue, found ones red", fontsize=11)
    return figure
