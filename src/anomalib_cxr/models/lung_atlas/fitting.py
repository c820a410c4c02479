"""How the atlas learns from healthy X-rays: part by part, each scored where it has not learned."""

from __future__ import annotations

import logging

import torch

from anomalib_cxr.functional.alignment import Rows
from anomalib_cxr.functional.exposure import healthy_regions
from anomalib_cxr.functional.lesions import add_lesions
from anomalib_cxr.models.base.reproducible import drawn_from

from .cross_fitting import cross_fit, draw_folds, in_order
from .lesion_net import N_SCORES, LesionFinding, LesionNet
from .lesion_training import LesionTraining
from .torch_model import LungAtlasModel
from .views import View

logger = logging.getLogger(__name__)

W_LESIONS = 0.5
"""Weight of the lesion nets beside the other parts together."""


def fit_atlas(model: LungAtlasModel, view: View, steps: int, seed: int) -> None:
    """Fit all parts of an atlas, and what their scores are compared with.

    Args:
        model: The atlas, whose segmenter is ready; fitted in place.
        view: What it sees of all healthy images.
        steps: Batches that each lesion net learns from.
        seed: Seed of folds, nets and lesions.
    """
    fold = draw_folds(len(view.lungs), len(model.finders), seed)
    findings = [cross_fit(part, view.lungs, fold) for part in model.atlas_parts]
    logger.info("Lung atlas: %s fitted to %d healthy images.", ", ".join(model.parts), len(fold))
    lesions = fit_finders(model, view, fold, steps, seed)
    model.take_usual([*(finding.places for finding in findings), lesions.places])
    scores = torch.cat([torch.stack([finding.score for finding in findings], dim=1), lesions.scores], dim=1)
    for known, found in zip((model.inside, model.outside), healthy_regions(view.box[:, 1:]), strict=True):
        known.copy_(found)
    fit_standard(model, view.rows)
    exposures = model.exposure(view.box)
    model.calibration.fit(scores, exposures)
    model.weights.copy_(weigh(model.calibration(scores, exposures)))


def fit_finders(model: LungAtlasModel, view: View, fold: torch.Tensor, steps: int, seed: int) -> LesionFinding:
    """Train the lesion nets, each without one fold, and return what they say of that fold's images, in their order."""
    findings = []
    for number, finder in enumerate(model.lesion_finders):
        seen, unseen = fold != number, view.fine[fold == number]
        logger.info("Lung atlas: lesion net %d of %d.", number + 1, len(model.finders))
        seed_of_net = seed * len(model.finders) + number
        with drawn_from(seed_of_net):
            training = LesionTraining(view.fine[seen], view.inside[seen], add_lesions, seed_of_net)
            net = training.run(LesionNet(n_channels=2).to(unseen.device), steps)
        finder.take(training.view, net, unseen)
        findings.append(finder.score_all(unseen))
    return in_order(findings, fold)


def fit_standard(model: LungAtlasModel, rows: Rows) -> None:
    """Learn where healthy lungs are: the median of each end and edge."""
    for known, found in zip(model.standard, rows, strict=True):
        known.copy_(found.median(dim=0, keepdim=True).values)


def weigh(deviations: torch.Tensor) -> torch.Tensor:
    """Return weights by which each group of scores, and their sum, count by standard deviations of healthy images.

    Args:
        deviations: Calibrated scores of healthy images, `(N, n_scores)`; those of the lesion nets come last.

    Returns:
        `(n_scores,)`.

    Example:
        >>> deviations = torch.randn(50, 6)
        >>> round((deviations @ weigh(deviations)).std().item(), 4)
        1.0
    """
    weights = torch.ones(deviations.shape[1]).to(deviations)
    for group, weight in ((slice(None, -N_SCORES), 1.0), (slice(-N_SCORES, None), W_LESIONS)):
        weights[group] = weight / deviations[:, group].sum(dim=1).std()
    return weights / (deviations @ weights).std()
