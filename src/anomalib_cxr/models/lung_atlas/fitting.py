"""Fitting of the atlas to healthy X-rays, with cross-fitted scores."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch

from anomalib_cxr.functional.alignment import Rows
from anomalib_cxr.functional.lesions import add_lesions
from anomalib_cxr.models.base.reproducible import seeded

from .lesion_net import N_SCORES, LesionNet, LesionScores
from .lesion_training import LesionTraining
from .parts import AtlasPart, PartScores, Scores, concatenate, score_in_batches
from .torch_model import LungAtlasModel, LungViews

logger = logging.getLogger(__name__)

W_LESIONS = 0.5
"""Weight of the lesion nets beside the other parts together."""


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


def fit_atlas(model: LungAtlasModel, views: LungViews, steps: int, seed: int) -> None:
    """Fit all parts of an atlas, and the statistics of healthy scores.

    Args:
        model: The atlas, whose segmenter is ready; fitted in place.
        views: Views of all healthy images.
        steps: Batches that each lesion net is trained on.
        seed: Seed of folds, nets and lesions.
    """
    fold = draw_folds(len(views.lungs), len(model.detectors), seed)
    parts = [cross_fit(part, views.lungs, fold) for part in model.atlas_parts]
    logger.info("Lung atlas: %s fitted to %d healthy images.", ", ".join(model.parts), len(fold))
    lesions = fit_detectors(model, views, fold, steps, seed)
    model.fit_maps([*(part.map for part in parts), lesions.map])
    scores = torch.cat([torch.stack([part.score for part in parts], dim=1), lesions.scores], dim=1)  # (N, n_scores)
    fit_standard(model, views.rows)
    model.exposure_adjustment.fit(scores, views.crop)
    model.weights.copy_(score_weights(model.exposure_adjustment(scores, views.crop)))


def fit_detectors(model: LungAtlasModel, views: LungViews, fold: torch.Tensor, steps: int, seed: int) -> LesionScores:
    """Train the lesion nets, each without one fold.

    Args:
        model: The atlas.
        views: Views of all healthy images.
        fold: Fold of each image, `(N,)`.
        steps: Batches that each net is trained on.
        seed: Seed of nets and lesions.

    Returns:
        Scores of each image by the net that was not trained on it, in the order of the images.
    """
    folds_scores: list[LesionScores] = []
    for number, detector in enumerate(model.lesion_detectors):
        training, held_out = fold != number, views.fine[fold == number]
        logger.info("Lung atlas: lesion net %d of %d.", number + 1, len(model.detectors))
        seed_of_net = seed * len(model.detectors) + number
        with seeded(seed_of_net):
            lesions = LesionTraining(views.fine[training], views.inside[training], add_lesions, seed_of_net)
            net = lesions.run(LesionNet(n_channels=2).to(held_out.device), steps)
        detector.replace_net(lesions.input, net, held_out)
        folds_scores.append(score_in_batches(detector, held_out))
    return in_order(folds_scores, fold)


def fit_standard(model: LungAtlasModel, rows: Rows) -> None:
    """Set the standard position of lungs to the median of each end and edge.

    Args:
        model: The atlas.
        rows: Ends and edges of healthy lungs.
    """
    for standard, observed in zip(model.standard, rows, strict=True):
        standard.copy_(observed.median(dim=0, keepdim=True).values)


def score_weights(deviations: torch.Tensor) -> torch.Tensor:
    """Return weights such that each group of scores, and their sum, have standard deviation 1 on healthy images.

    Args:
        deviations: Adjusted scores of healthy images, `(N, n_scores)`; those of the lesion nets come last.

    Returns:
        `(n_scores,)`.

    Example:
        >>> deviations = torch.randn(50, 6)
        >>> round((deviations @ score_weights(deviations)).std().item(), 4)
        1.0
    """
    weights = torch.ones(deviations.shape[1]).to(deviations)
    for group, weight in ((slice(None, -N_SCORES), 1.0), (slice(-N_SCORES, None), W_LESIONS)):
        weights[group] = weight / deviations[:, group].sum(dim=1).std()
    return weights / (deviations @ weights).std()
