"""Fitting of the atlas to healthy X-rays, with cross-fitted scores."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch

from anomalib_cxr.functional.alignment import Rows

from .parts import AtlasPart, PartScores, Scores, concatenate, join_scores, score_in_batches
from .torch_model import LungAtlasModel, LungViews

logger = logging.getLogger(__name__)


def draw_folds(count: int, n_folds: int, seed: int) -> torch.Tensor:
    """Assign images at random to folds of nearly the same size.

    Args:
        count: Number of images.
        n_folds: Number of folds.
        seed: Seed of the assignment.

    Returns:
        Fold of each image, `(count,)`.

    Example:
        >>> draw_folds(5, 2, seed=0).bincount().tolist()
        [3, 2]
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)) % n_folds


def in_order(folds_scores: Sequence[Scores], fold: torch.Tensor) -> Scores:
    """Put scores of each fold in turn into the order of the images.

    Args:
        folds_scores: Scores of the images of each fold.
        fold: Fold of each image, `(N,)`.

    Returns:
        Scores of all images in their order.
    """
    order = fold.argsort(stable=True).argsort()
    kind: Any = type(folds_scores[0])
    scores: Scores = kind(*(tensor[order] for tensor in concatenate(folds_scores)))
    return scores


@torch.no_grad()
def cross_fit(part: AtlasPart, frames: torch.Tensor, fold: torch.Tensor) -> PartScores:
    """Fit a part to all frames, and score each by a copy that was fitted without its fold.

    Args:
        part: The part; afterwards it is fitted to all frames.
        frames: Healthy lungs in [0, 1], `(N, 1, H, W)`.
        fold: Fold of each frame, `(N,)`.

    Returns:
        Scores and maps of all frames, in their order.
    """
    folds_scores: list[PartScores] = []
    for number in range(int(fold.max()) + 1):
        without = copy.deepcopy(part)
        without.fit(frames[fold != number])
        folds_scores.append(score_in_batches(without, frames[fold == number]))
    part.fit(frames)
    return in_order(folds_scores, fold)


def fit_atlas(model: LungAtlasModel, views: LungViews, n_folds: int, seed: int) -> None:
    """Fit all parts of an atlas, and the statistics of healthy scores.

    Args:
        model: The atlas, whose segmenter is ready; fitted in place.
        views: Views of all healthy images.
        n_folds: Folds of the images.
        seed: Seed of the folds.
    """
    fold = draw_folds(len(views.lungs), n_folds, seed)
    parts = [cross_fit(part, views.lungs, fold) for part in model.atlas_parts]
    logger.info("Lung atlas: %s fitted to %d healthy images.", ", ".join(model.parts), len(fold))
    model.fit_maps([part.map for part in parts])
    scores = join_scores([part.score for part in parts])  # (N, 5)
    fit_standard(model, views.rows)
    model.exposure_adjustment.fit(scores, views.crop)
    model.combination.fit(model.exposure_adjustment(scores, views.crop))


def fit_standard(model: LungAtlasModel, rows: Rows) -> None:
    """Set the standard position of lungs to the median of each end and edge.

    Args:
        model: The atlas.
        rows: Ends and edges of healthy lungs.
    """
    for standard, observed in zip(model.standard, rows, strict=True):
        standard.copy_(observed.median(dim=0, keepdim=True).values)
