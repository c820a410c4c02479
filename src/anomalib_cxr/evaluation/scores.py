"""Tables of the scores of a test set, and the choice of example images for a residual sheet."""

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


class ImageScore(NamedTuple):
    """Score of one test image, before post-processing."""

    image_path: str
    label: str | None
    """`normal`, `sick`, or None if unknown."""
    score: float


def scores_of_batch(batch: Any) -> list[ImageScore]:
    """Return the scores of a batch.

    Args:
        batch: anomalib's `ImageBatch` with predictions, before post-processing.

    Returns:
        One per image; none for a batch without scores or paths.

    Example:
        >>> from anomalib.data import ImageBatch
        >>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
        >>> batch = ImageBatch(image=images, gt_label=labels, image_path=["a.png", "b.png"])
        >>> scores_of_batch(batch.update(pred_score=torch.tensor([0.5, 2.0])))
        [ImageScore(image_path='a.png', label='normal', score=0.5),
         ImageScore(image_path='b.png', label='sick', score=2.0)]
    """
    if batch.pred_score is None or batch.image_path is None:
        return []
    scores = batch.pred_score.detach().float().flatten().tolist()
    labels = [None] * len(scores) if batch.gt_label is None else batch.gt_label.flatten().tolist()
    names = [None if label is None else (SICK if label else NORMAL) for label in labels]
    return list(map(ImageScore, map(str, batch.image_path), names, scores))


def score_table(
    scores: Sequence[ImageScore], post_processor: PostProcessor | None = None, sources: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return the scores of a test set as a table.

    Args:
        scores: Score of each image.
        post_processor: anomalib's post-processor, which normalizes scores and applies the threshold.
        sources: Hospital by image path.

    Returns:
        A table with the columns

        - `image_path`, and `image`: its last two parts.
        - `source`: hospital, missing where unknown.
        - `label`: `normal` or `sick`, missing where unknown.
        - `score`: output of the model.
        - `probability`: normalized by the post-processor to [0, 1], threshold at 0.5; missing without normalization.
        - `predicted`: `normal` or `sick`, missing without a threshold.

    Example:
        >>> scores = [ImageScore("xrays/a_0.png", "normal", 0.5), ImageScore("xrays/b_1.png", "sick", 2.0)]
        >>> score_table(scores)[["image", "score"]]
                   image  score
        0  xrays/a_0.png    0.5
        1  xrays/b_1.png    2.0
    """
    table: pd.DataFrame = pd.DataFrame(scores, columns=list(ImageScore._fields))
    table["image"] = [image_name(path) for path in table.image_path]
    table["source"] = table.image_path.map(dict(sources or {}))
    table["probability"], table["predicted"] = _post_process(post_processor, table.score.to_numpy(dtype=np.float32))
    return table


def image_name(path: str) -> str:
    """Return the name of an image in tables: the last two parts of its path.

    Args:
        path: Path of the image.

    Returns:
        Folder and file name.

    Example:
        >>> image_name("/data/CXR_png/CHNCXR_0001_0.png")
        'CXR_png/CHNCXR_0001_0.png'
    """
    return "/".join(PurePath(path).parts[-2:])


def _post_process(post_processor: PostProcessor | None, scores: np.ndarray) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the probability and the predicted label of each score."""
    missing = [None] * len(scores)
    if post_processor is None:
        return missing, missing
    batch = InferenceBatch(pred_score=torch.from_numpy(scores).to(post_processor.image_min.device))
    processed = post_processor(batch)
    probability, label = processed.pred_score, processed.pred_label
    normalizes = post_processor.enable_normalization and bool(torch.isfinite(probability).any())
    # Without a threshold anomalib returns the scores in place of labels.
    has_threshold = label is not None and label.dtype == torch.bool
    return (
        probability.tolist() if normalizes else missing,
        [SICK if sick else NORMAL for sick in label.tolist()]
        if has_threshold and (normalizes or not post_processor.enable_normalization)
        else missing,
    )


def no_roc_reason(table: pd.DataFrame) -> str | None:
    """Return the reason why a table of scores has no ROC curve.

    Args:
        table: From :func:`score_table`.

    Returns:
        The reason; None if a ROC curve can be computed.

    Example:
        >>> no_roc_reason(score_table([ImageScore("a.png", "normal", 0.5)]))
        '1 normal and 0 sick images: a ROC curve needs both'
    """
    normal, sick = count_labels(table)
    if not normal or not sick:
        return f"{normal} normal and {sick} sick images: a ROC curve needs both"
    not_finite = int((~np.isfinite(table.score)).sum())
    return f"{not_finite} of {len(table)} scores are not finite" if not_finite else None


def count_labels(table: pd.DataFrame) -> tuple[int, int]:
    """Return the numbers of normal and of sick images.

    Args:
        table: With a column `label`.

    Returns:
        Normal images, sick images.
    """
    return int((table.label == NORMAL).sum()), int((table.label == SICK).sum())


def auroc(table: pd.DataFrame) -> float:
    """Return the area under the ROC curve.

    Args:
        table: Scores of images of both classes; images without a label are left out.

    Returns:
        AUROC in [0, 1].
    """
    known = table[table.label.notna()]
    return float(roc_auc_score(known.label == SICK, known.score))


def choose_examples(table: pd.DataFrame) -> pd.DataFrame:
    """Choose up to four example images of each class, at even steps of its ranked scores, both extremes included.

    Args:
        table: From :func:`score_table`.

    Returns:
        Rows of the table, normal ones first, by rising score, with the additional column `rank` within the class, such
        as "1 of 45" for the lowest score.
    """
    chosen = [_evenly(table[table.label == label].sort_values("score")) for label in (NORMAL, SICK)]
    return pd.concat(chosen)


def _evenly(by_score: pd.DataFrame) -> pd.DataFrame:
    count = len(by_score)
    places = sorted({round(part * (count - 1) / 3) for part in range(4)}) if count else []
    chosen: pd.DataFrame = by_score.iloc[places].assign(rank=[f"{place + 1} of {count}" for place in places])
    return chosen
