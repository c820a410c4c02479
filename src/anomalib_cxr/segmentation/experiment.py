"""Training of a lung segmenter on a data folder, with Dice on held-out images."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.progress import track
from scipy.stats import bootstrap

from anomalib_cxr.data.datasets.verification import verify_samples
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.split_table import hold_out_by_table
from anomalib_cxr.data.sources.splits import describe_splits, hold_out
from anomalib_cxr.errors import DatasetError, SegmenterError, refuse_settings
from anomalib_cxr.evaluation.canvas import BLUE, RED, new_figure, save_figure
from anomalib_cxr.evaluation.metrics.intervals import LEVEL, Interval
from anomalib_cxr.evaluation.scores import NORMAL, SICK
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.provenance import code_record, write_record

from .network import WIDTHS, LungSegmenter, fastest_device, save_segmenter, segment_lungs
from .postprocessing import is_plausible
from .training import fit_segmenter

logger = logging.getLogger(__name__)

ALL = "all"
"""Label of the rows of a summary that pool sources or labels."""
WORST = 12
"""Number of cases in the figure of the worst ones."""
SEGMENTER = "segmenter.pt"
"""Name of the file of a trained segmenter."""
_COLUMNS = 4


def measure_dice(segmenter: LungSegmenter, samples: pd.DataFrame, sixteen_bit_white: int | None = None) -> pd.DataFrame:
    """Compute the Dice coefficient of predicted and true masks and the ratio of their areas, at the size of each image.

    Args:
        segmenter: Trained segmenter.
        samples: Table of :func:`anomalib_cxr.data.sources.samples.make_samples`; each image needs a mask.
        sixteen_bit_white: White of 16-bit images.

    Returns:
        A row per image with the columns `image` (path), `source`, `label` (`normal`, `sick`), `dice`, in [0, 1], and
        `area_ratio`, the predicted area over the true one; both are 0 for an implausible mask.
    """
    rows = list(zip(samples.image_path, samples.roi_mask_paths, strict=True))
    agreements = [_agreement(segmenter, *row, sixteen_bit_white) for row in track(rows, "Measuring", transient=True)]
    table: pd.DataFrame = pd.DataFrame(agreements, columns=list(_Agreement._fields), index=samples.index)
    table.insert(0, "image", samples.image_path)
    table.insert(1, "source", samples.source)
    table.insert(2, "label", np.where(samples.label_index == 1, SICK, NORMAL))
    return table


class _Agreement(NamedTuple):
    """Agreement of a predicted mask with the true one."""

    dice: float
    area_ratio: float


def _agreement(segmenter: LungSegmenter, image: str, masks: tuple[str, ...], white: int | None) -> _Agreement:
    predicted = segment_lungs(segmenter, read_radiograph(image, white))
    if not is_plausible(predicted):
        return _Agreement(0.0, 0.0)
    true = read_mask(*masks).numpy()
    return _Agreement(dice(predicted, true), float(predicted.sum() / true.sum()))


def dice(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Compute the Dice coefficient of two masks: twice their common area over the sum of both areas, by MONAI.

    Args:
        predicted: Predicted mask, `(H, W)`.
        true: True mask of the same size, not empty.

    Returns:
        The coefficient, in [0, 1].

    Example:
        >>> dice(np.array([[True, True, False]]), np.array([[False, True, False]]))
        0.666...
    """
    from monai.metrics.meandice import compute_dice  # noqa: PLC0415  # a second that only segmenting is to cost

    first, second = (torch.from_numpy(mask)[None, None].float() for mask in (predicted, true))
    return float(compute_dice(first, second))


def summarize_dice(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Compute the mean Dice of each hospital and label, each hospital, and all, with 95 % bootstrap intervals.

    Args:
        table: Result of :func:`measure_dice`.
        seed: Seed of the resampling.

    Returns:
        Columns `source`, `label`, `n`, `mean`, `low`, `high`, `least`; the interval of a single image is missing.

    Example:
        >>> table = pd.DataFrame({"source": "a", "label": ["normal", "sick", "sick"], "dice": [0.9, 0.8, 1.0]})
        >>> summarize_dice(table)[["source", "label", "n", "mean"]].to_dict("records")[-1]
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
    """Return the interval of a mean by the bias-corrected bootstrap, since Dice is skewed to the left."""
    if len(values) == 1:
        return Interval(math.nan, math.nan)
    result = bootstrap((values,), np.mean, confidence_level=LEVEL, rng=np.random.default_rng(seed))
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))


def plot_worst_cases(
    segmenter: LungSegmenter, samples: pd.DataFrame, table: pd.DataFrame, sixteen_bit_white: int | None = None
) -> Figure:
    """Plot the cases of lowest Dice with the outlines of true and predicted lungs.

    Args:
        segmenter: Segmenter that was measured.
        samples: Table of the images that were measured.
        table: Result of :func:`measure_dice` for them.
        sixteen_bit_white: White of 16-bit images.

    Returns:
        The figure.
    """
    worst = table.nsmallest(WORST, "dice")
    n_rows = math.ceil(len(worst) / _COLUMNS)
    figure = new_figure(3 * _COLUMNS, 3.4 * n_rows + 0.6)
    panels = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, (index, row) in zip(panels, worst.iterrows(), strict=False):
        radiograph = read_radiograph(row.image, sixteen_bit_white)
        outlines = {BLUE: read_mask(*samples.roi_mask_paths[index]).numpy(), RED: segment_lungs(segmenter, radiograph)}
        panel.imshow(radiograph[0], cmap="gray", vmin=0, vmax=1)
        for color, mask in outlines.items():
            if mask.any():
                panel.contour(mask, levels=[0.5], colors=color, linewidths=0.9)
        panel.set_title(f"{Path(row.image).name} ({row.label})\nDice {row.dice:.3f}", fontsize=8)
    figure.suptitle("Held-out images of lowest Dice: true lungs blue, predicted lungs red", fontsize=11)
    return figure


@dataclass(frozen=True)
class SegmenterSettings:
    """Settings of the training of a segmenter.

    Args:
        image_size: Internal side of the network in pixels.
        widths: Channels of its five levels.
        steps: Number of batches.
        batch_size: Images per batch.
        test_share: Share of each hospital's and label's images that is held out; unused with `split_table`.
        seed: Seed of split, initial weights and training; column of `split_table`.
        sixteen_bit_white: White of 16-bit images.
        split_table: CSV file of :func:`anomalib_cxr.data.sources.split_table.read_split_table`, whose healthy training
            images alone train; None for a random split.
        learn_from_sick: Train on sick images, too; not with `split_table`. A model of healthy images only that finds
            lungs by this segmenter has then seen sick ones.

    Raises:
        SettingError: If a number is outside its range.
    """

    image_size: int = 256
    widths: Sequence[int] = WIDTHS
    steps: int = 1500
    batch_size: int = 16
    test_share: float = 0.2
    seed: int = 0
    sixteen_bit_white: int | None = None
    split_table: Path | None = None
    learn_from_sick: bool = False

    def __post_init__(self) -> None:
        rules = {
            "steps": (self.steps >= 1, ">= 1"),
            "batch_size": (self.batch_size >= 1, ">= 1"),
            "test_share": (0 < self.test_share < 1, "between 0 and 1"),
            "seed": (self.seed >= 0, ">= 0"),
            "learn_from_sick": (self.split_table is None or not self.learn_from_sick, "false with split_table"),
        }
        wrong = {name: getattr(self, name) for name, (holds, _) in rules.items() if not holds}
        refuse_settings(wrong, {name: expected for name, (_, expected) in rules.items()}, "the command's options")


def train_segmenter(root: Path | str, output: Path | str, settings: SegmenterSettings) -> pd.DataFrame:
    """Train a segmenter on the true masks of a data folder, and evaluate it on held-out images.

    Args:
        root: Folder with the data, in any layout of :mod:`anomalib_cxr.data.sources.layouts`.
        output: Folder to write: `dice.csv` (a row per held-out image), `summary.csv`, `worst.png`, `run.json`, and
            last `segmenter.pt`.
        settings: Settings of the training.

    Returns:
        The summary; see :func:`summarize_dice`.

    Raises:
        SettingError: If the segmenter's settings are invalid.
        SegmenterError: If the folder already holds a segmenter.
        DatasetError: If the data cannot be used.
    """
    root, output = Path(root), Path(output)
    _refuse_occupied(output / SEGMENTER)
    white = settings.sixteen_bit_white
    torch.manual_seed(settings.seed)
    segmenter = LungSegmenter(settings.image_size, settings.widths).to(fastest_device())
    samples = verify_samples(_split(_masked_samples(root), settings), "raise", sixteen_bit_white=white)
    logger.info("%s", describe_splits(samples))
    training, held_out = samples[samples.split == "train"], samples[samples.split == "test"]
    _refuse_nothing_to_learn(training, root)
    record = {**code_record(), "root": root, "settings": asdict(settings), "device": str(fastest_device())}
    images, masks = _read_pairs(training, settings.image_size, white)
    fit_segmenter(segmenter, images, masks, steps=settings.steps, batch_size=settings.batch_size, seed=settings.seed)
    table = measure_dice(segmenter, held_out, white)
    summary = summarize_dice(table, settings.seed)
    save_figure(plot_worst_cases(segmenter, held_out, table, white), output / "worst.png")
    _write_table(table.assign(image=table.image.map(lambda path: Path(path).name)), output / "dice.csv")
    _write_table(summary, output / "summary.csv")
    write_record(record, output / "run.json")
    save_segmenter(segmenter, output / SEGMENTER, record)
    return summary


def _split(samples: pd.DataFrame, settings: SegmenterSettings) -> pd.DataFrame:
    """Hold out images to measure on; of the others, sick ones train only where that was asked for."""
    if settings.split_table is not None:
        return hold_out_by_table(samples, settings.split_table, settings.seed)
    split = hold_out(samples, settings.test_share, settings.seed)
    unused = (split.split == "train") & (split.label_index == 1) & (not settings.learn_from_sick)
    sorted_in: pd.DataFrame = split.assign(split=split.split.mask(unused, "unused"))
    return sorted_in


def _masked_samples(root: Path) -> pd.DataFrame:
    samples = make_samples(root)
    masked: pd.DataFrame = samples[samples.roi_mask_paths.map(len) > 0]
    if masked.empty:
        raise DatasetError(
            f"{len(samples)} X-rays in {root}, none of them with a lung mask",
            "X-rays with true lung masks to learn from",
            "complete the data; for Shenzhen, fetch yoctoman/shcxr-lung-mask from Kaggle and unpack its mask/ there",
        )
    return masked


def _refuse_nothing_to_learn(training: pd.DataFrame, root: Path) -> None:
    if training.empty:
        raise DatasetError(
            f"no healthy X-ray with a lung mask to learn from in {root}, beside those that are held out",
            "at least two healthy ones of one hospital",
            "add X-rays with lung masks; or learn from sick ones, too (--learn_from_sick true)",
        )


def _refuse_occupied(path: Path) -> None:
    if path.exists():
        raise SegmenterError(
            f"{path}, which already exists",
            "a new folder: predicted masks may depend on this segmenter",
            "choose another --output, or delete the file",
        )


def _read_pairs(samples: pd.DataFrame, size: int, white: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Read X-rays in [-1, 1] and their masks, 0 to 1, `(N, 1, S, S)`, in half precision to save memory."""
    rows = list(zip(samples.image_path, samples.roi_mask_paths, strict=True))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = list(
            track(pool.map(partial(_read_pair, size, white), rows), "Reading", total=len(rows), transient=True)
        )
    images, masks = zip(*pairs, strict=True)
    return torch.cat(images), torch.cat(masks)


def _read_pair(size: int, white: int | None, files: tuple[str, tuple[str, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    image, masks = files
    pair = 2 * read_radiograph(image, white)[None] - 1, read_mask(*masks)[None, None].float()
    small_image, small_mask = (antialiased_resize(tensor, (size, size)).half() for tensor in pair)
    return small_image, small_mask


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as unfinished:
        table.to_csv(unfinished, index=False, float_format="%.4f")
