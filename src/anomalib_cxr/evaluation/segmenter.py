"""Train a lung segmenter on the X-rays that have a true mask, and measure it on those held out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from rich.progress import track

from anomalib_cxr.data.radiograph import read_mask, read_radiograph
from anomalib_cxr.data.samples import make_samples
from anomalib_cxr.data.splits import describe_splits, hold_out
from anomalib_cxr.data.verification import verify_samples
from anomalib_cxr.errors import DatasetError, SegmenterError, refuse_settings
from anomalib_cxr.files import whole_file
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.segmentation.network import WIDTHS, LungSegmenter, fastest_device, save_segmenter
from anomalib_cxr.segmentation.training import fit_lungs

from .files import save_figure
from .lung_dice import measure_dice, summarise_dice, worst_lungs
from .provenance import code_record, write_record

logger = logging.getLogger(__name__)

SEGMENTER = "segmenter.pt"


@dataclass(frozen=True)
class SegmenterSettings:
    """What a training of a segmenter is told.

    Args:
        image_size: Side in pixels at which the network works.
        widths: Channels of its five levels.
        steps: Batches to train on.
        batch_size: Images in a batch.
        test_share: Share of each hospital's and label's images that is held out.
        seed: Seed of the draw, of the first weights, and of the training.

    Raises:
        SettingError: If a number is outside its range.
    """

    image_size: int = 256
    widths: Sequence[int] = WIDTHS
    steps: int = 1500
    batch_size: int = 16
    test_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "steps": (self.steps >= 1, ">= 1"),
            "batch_size": (self.batch_size >= 1, ">= 1"),
            "test_share": (0 < self.test_share < 1, "between 0 and 1"),
            "seed": (self.seed >= 0, ">= 0"),
        }
        wrong = {name: getattr(self, name) for name, (holds, _) in rules.items() if not holds}
        refuse_settings(wrong, {name: expected for name, (_, expected) in rules.items()}, "the command's options")


def train_segmenter(root: Path | str, output: Path | str, settings: SegmenterSettings) -> pd.DataFrame:
    """Train a segmenter, and write it into a folder with what was measured on the held-out images.

    Only true masks count: predicted ones would teach it its own errors, and flatter it.

    Args:
        root: Folder with the data, in any layout of :mod:`anomalib_cxr.data.layouts`.
        output: Folder to write: `dice.csv` (a row per held-out image), `summary.csv`, `worst.png`, `run.json`, and
            last `segmenter.pt`.
        settings: The settings.

    Returns:
        The summary; see :func:`anomalib_cxr.evaluation.lung_dice.summarise_dice`.

    Raises:
        SettingError: If the segmenter's shape is none.
        SegmenterError: If the folder holds a segmenter already.
        DatasetError: If the data cannot be used.
    """
    root, output = Path(root), Path(output)
    _refuse_occupied(output / SEGMENTER)
    torch.manual_seed(settings.seed)
    segmenter = LungSegmenter(settings.image_size, settings.widths).to(fastest_device())
    samples = hold_out(verify_samples(_masked_samples(root), "raise"), settings.test_share, settings.seed)
    logger.info("%s", describe_splits(samples))
    training, held_out = samples[samples.split == "train"], samples[samples.split == "test"]
    _refuse_nothing_to_learn(training, root)
    record = {**code_record(), "root": root, "settings": asdict(settings), "device": str(fastest_device())}
    images, masks = _read_pairs(training, settings.image_size)
    fit_lungs(segmenter, images, masks, steps=settings.steps, batch_size=settings.batch_size, seed=settings.seed)
    table = measure_dice(segmenter, held_out)
    summary = summarise_dice(table, settings.seed)
    save_figure(worst_lungs(segmenter, held_out, table), output / "worst.png")
    _write_table(table.assign(image=table.image.map(lambda path: Path(path).name)), output / "dice.csv")
    _write_table(summary, output / "summary.csv")
    write_record(record, output / "run.json")
    save_segmenter(segmenter, output / SEGMENTER, record)
    return summary


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
            f"a single X-ray with a lung mask of each hospital and label in {root}: all are held out",
            "two at least of one kind",
            "add X-rays with lung masks",
        )


def _refuse_occupied(path: Path) -> None:
    if path.exists():
        raise SegmenterError(
            f"{path}, which is there already",
            "a new folder: predicted masks may depend on this segmenter",
            "choose another --output, or delete it",
        )


def _read_pairs(samples: pd.DataFrame, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Read X-rays in [-1, 1] and their lungs from 0 to 1, `(N, 1, S, S)`, in half precision to fit into memory."""
    rows = list(zip(samples.image_path, samples.roi_mask_paths, strict=True))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = list(track(pool.map(partial(_read_pair, size), rows), "Reading", total=len(rows), transient=True))
    images, masks = zip(*pairs, strict=True)
    return torch.cat(images), torch.cat(masks)


def _read_pair(size: int, files: tuple[str, tuple[str, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    image, masks = files
    pair = 2 * read_radiograph(image)[None] - 1, read_mask(*masks)[None, None].float()
    small, lungs = (antialiased_resize(each, (size, size)).half() for each in pair)
    return small, lungs


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as unfinished:
        table.to_csv(unfinished, index=False, float_format="%.4f")
