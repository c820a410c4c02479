"""The scores of a test set as a table, and which of its images are worth a reader's look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from anomalib.data import InferenceBatch
from anomalib.post_processing import PostProcessor
from sklearn.metrics import roc_auc_score

NORMAL, SICK = "normal", "sick"
COLUMNS = ["image", "source", "label", "score", "probability", "predicted"]


class Scored(NamedTuple):
    """One test image as the model left it, before any post-processing."""

    image_path: str
    label: str | None
    """`normal`, `sick`, or None where the data do not say."""
    score: float


def scores_of(batch: Any) -> list[Scored]:
    """Return the scores of a batch that a model has scored; none of one without scores or paths.

    Args:
        batch: anomalib's `ImageBatch`, before any post-processing.

    Example:
        >>> from anomalib.data import ImageBatch
        >>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
        >>> batch = ImageBatch(image=images, gt_label=labels, image_path=["a.png", "b.png"])
        >>> scores_of(batch.update(pred_score=torch.tensor([0.5, 2.0])))
        [Scored(image_path='a.png', label='normal', score=0.5), Scored(image_path='b.png', label='sick', score=2.0)]
    """
    if batch.pred_score is None or batch.image_path is None:
        return []
    scores = batch.pred_score.detach().float().flatten().tolist()
    labels = [None] * len(scores) if batch.gt_label is None else batch.gt_label.flatten().tolist()
    names = [None if label is None else (SICK if label else NORMAL) for label in labels]
    return list(map(Scored, map(str, batch.image_path), names, scores))


def score_table(
    scored: Sequence[Scored], post_processor: PostProcessor | None = None, sources: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Tabulate the scores of a test set.

    Args:
        scored: The images.
        post_processor: What turns scores into probabilities and labels; also inside an exported model.
        sources: Hospital by path.

    Returns:
        A table with the columns

        - `image_path`, and `image`: its last two parts.
        - `source`: hospital, missing where unknown.
        - `label`: `normal` or `sick`, missing where unknown.
        - `score`: as the model gives it.
        - `probability`: after the post-processor, in [0, 1], its threshold at 0.5; missing where it does not normalize.
        - `predicted`: `normal` or `sick`, missing where there is no threshold.

    Example:
        >>> scored = [Scored("xrays/a_0.png", "normal", 0.5), Scored("xrays/b_1.png", "sick", 2.0)]
        >>> score_table(scored)[["image", "score"]]
                   image  score
        0  xrays/a_0.png    0.5
        1  xrays/b_1.png    2.0
    """
    table: pd.DataFrame = pd.DataFrame(scored, columns=list(Scored._fields))
    table["image"] = [image_name(path) for path in table.image_path]
    table["source"] = table.image_path.map(dict(sources or {}))
    table["probability"], table["predicted"] = _after(post_processor, table.score.to_numpy(dtype=np.float32))
    return table


def image_name(path: str) -> str:
    """Return what tables call an image: the last two parts of its path.

    Example:
        >>> image_name("/data/CXR_png/CHNCXR_0001_0.png")
        'CXR_png/CHNCXR_0001_0.png'
    """
    return "/".join(PurePath(path).parts[-2:])


def _after(post_processor: PostProcessor | None, scores: np.ndarray) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return probability and predicted label of each score."""
    missing = [None] * len(scores)
    if post_processor is None:
        return missing, missing
    done = post_processor(InferenceBatch(pred_score=torch.from_numpy(scores).to(post_processor.image_min.device)))
    probability, label = done.pred_score, done.pred_label
    normalizes = post_processor.enable_normalization and bool(torch.isfinite(probability).any())
    # Without a threshold anomalib hands the scores through in place of labels.
    thresholds = label is not None and label.dtype == torch.bool
    return (
        probability.tolist() if normalizes else missing,
        [SICK if sick else NORMAL for sick in label.tolist()]
        if thresholds and (normalizes or not post_processor.enable_normalization)
        else missing,
    )


def obstacle_to_roc(table: pd.DataFrame) -> str | None:
    """Return why there can be no ROC curve of a table of scores; None where there can.

    Example:
        >>> obstacle_to_roc(score_table([Scored("a.png", "normal", 0.5)]))
        '1 normal and 0 sick images: a ROC curve needs both'
    """
    normal, sick = count_labels(table)
    if not normal or not sick:
        return f"{normal} normal and {sick} sick images: a ROC curve needs both"
    broken = int((~np.isfinite(table.score)).sum())
    return f"{broken} of {len(table)} scores are not finite" if broken else None


def count_labels(table: pd.DataFrame) -> tuple[int, int]:
    """Return how many normal and how many sick images a table has."""
    return int((table.label == NORMAL).sum()), int((table.label == SICK).sum())


def auroc(table: pd.DataFrame) -> float:
    """Return the area under the ROC curve of the scores, for tables without an obstacle to it."""
    known = table[table.label.notna()]
    return float(roc_auc_score(known.label == SICK, known.score))


def choose_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Choose up to four images of each class, evenly over the order of its scores, extremes included.

    Args:
        table: From :func:`score_table`.

    Returns:
        Rows of the table, normal ones first, by rising score, with one column more, `rank`: the place among its
        class, from "1 of 45" for the lowest score.
    """
    chosen = [_evenly(table[table.label == label].sort_values("score")) for label in (NORMAL, SICK)]
    return pd.concat(chosen)


def _evenly(by_score: pd.DataFrame) -> pd.DataFrame:
    count = len(by_score)
    places = sorted({round(part * (count - 1) / 3) for part in range(4)}) if count else []
    chosen: pd.DataFrame = by_score.iloc[places].assign(rank=[f"{place + 1} of {count}" for place in places])
    return chosen
