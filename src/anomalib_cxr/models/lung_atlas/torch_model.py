"""The atlas as one module: views of the lungs, scores and maps of each part, their combination.

The computation is the same in training, validation and an exported graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.functional.alignment import Rows, find_rows, lungs_present, standard_rows
from anomalib_cxr.functional.frames import from_rows, rows_grid, to_frame
from anomalib_cxr.models.base.exposure import ExposureAdjustment, LungCrop, crop_lungs
from anomalib_cxr.models.base.healthy_maps import HealthyMaps
from anomalib_cxr.models.base.module import to_gray
from anomalib_cxr.models.base.segmenter import FrozenSegmenter

from . import lesion_net, parts
from .lesion_net import N_SCORES, LesionDetector
from .neighbors import PatchNeighbors
from .parts import AtlasPart, SubspaceResidual, by_lungs, locally
from .texture import TextureResidual


class LungViews(NamedTuple):
    """Views of the lungs of X-rays, the inputs of the parts."""

    rows: Rows
    """Ends and edges of the lungs."""
    found: torch.Tensor
    """True for each lung that was found, `(B, 2)`."""
    lungs: torch.Tensor
    """Frames for the linear parts in [0, 1], `(B, 1, 64, 80)`."""
    fine: torch.Tensor
    """Frames for the lesion nets in [0, 1], `(B, 1, 96, 96)`."""
    inside: torch.Tensor
    """Probability of lung in `fine`, `(B, 1, 96, 96)`."""
    crop: LungCrop
    """Lung crops, in which the exposure is measured."""

    @staticmethod
    def concatenate(batches: Sequence[LungViews]) -> LungViews:
        """Concatenate views of several batches.

        Args:
            batches: The views of each.

        Returns:
            Those of all images.
        """
        rows, *tensors, crops = zip(*batches, strict=True)
        return LungViews._make(
            (
                Rows(*map(torch.cat, zip(*rows, strict=True))),
                *map(torch.cat, tensors),
                LungCrop(*map(torch.cat, zip(*crops, strict=True))),
            )
        )

    def sample(self, most: int, seed: int) -> LungViews:
        """Draw a random sample of the images where there are more than a number of them.

        Args:
            most: Greatest number of images.
            seed: Seed of the sample.

        Returns:
            Views of the sample, in the order of the images.
        """
        count = len(self.lungs)
        if count <= most:
            return self
        chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values
        rows, *tensors, crop = self
        return LungViews._make(
            (
                Rows(*(edge[chosen] for edge in rows)),
                *(tensor[chosen] for tensor in tensors),
                LungCrop(*(tensor[chosen] for tensor in crop)),
            )
        )


class AtlasScores(NamedTuple):
    """Scores and maps of all parts."""

    scores: torch.Tensor
    """One of each part, two of the lesion nets, `(B, 6)`; the higher the less healthy."""
    maps: list[torch.Tensor]
    """Map of each part, at least 0, `(B, 1, h, w)`, of sizes of their own."""


class LungAtlasModel(nn.Module):
    """Scores the deviation of lungs, aligned to a common frame, from healthy ones.

    Args:
        image_size: Side of the square image.
        segmenter_size: Side of the square at which a new segmenter works.
        n_folds: Lesion nets, each trained without one fold of the healthy images.
        n_components: Dimensions of the subspaces of healthy gray values.
        n_textures: Dimensions of the subspace of healthy textures.
        n_dims: Dimensions of a patch's description.
        n_bank: Healthy patches that are kept for each place.

    Example:
        >>> model = LungAtlasModel(n_folds=2, n_bank=8).eval()
        >>> scores = model(torch.zeros(2, 3, 128, 128))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 128, 128]))
    """

    def __init__(
        self,
        image_size: int = 128,
        segmenter_size: int = 64,
        n_folds: int = 4,
        n_components: int = 400,
        n_textures: int = 200,
        n_dims: int = 24,
        n_bank: int = 1024,
    ) -> None:
        super().__init__()
        self.segmenter = FrozenSegmenter(segmenter_size)
        self.parts = nn.ModuleDict(
            {
                "residual_local": SubspaceResidual(locally, n_components),
                "residual_lungs": SubspaceResidual(by_lungs, n_components),
                "neighbors": PatchNeighbors(locally, n_dims, n_bank),
                "texture": TextureResidual(n_textures),
            }
        )
        self.detectors = nn.ModuleList(LesionDetector() for _ in range(n_folds))
        self.exposure_adjustment = ExposureAdjustment(len(self.parts) + N_SCORES)
        self.register_buffer("weights", torch.ones(len(self.parts) + N_SCORES))
        for name, value in zip(Rows._fields, standard_rows(image_size), strict=True):
            self.register_buffer(f"standard_{name}", value.contiguous())
        sizes = [part.grid for part in self.atlas_parts] + [lesion_net.MAP]
        self.healthy_part_maps = nn.ModuleList(HealthyMaps(size) for size in sizes)
        self.healthy_maps = HealthyMaps(lesion_net.FRAME)

    weights: torch.Tensor

    @property
    def atlas_parts(self) -> list[AtlasPart]:
        """Return the linear parts in their order."""
        return [part for part in self.parts.values() if isinstance(part, AtlasPart)]

    @property
    def lesion_detectors(self) -> list[LesionDetector]:
        """Return the lesion detectors in their order."""
        return [detector for detector in self.detectors if isinstance(detector, LesionDetector)]

    @property
    def standard(self) -> Rows:
        """Return the standard position of lungs, for images in which a lung is not found."""
        return Rows(*(getattr(self, f"standard_{name}") for name in Rows._fields))

    def preprocess(self, images: torch.Tensor) -> LungViews:
        """Warp X-rays into the frames of the parts.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            The views.
        """
        gray = to_gray(images)
        probability = self.segmenter(gray)  # (B, 1, H, W)
        stacked = torch.cat([(gray + 1) / 2, probability], dim=1)  # (B, 2, H, W)
        rows = find_rows(probability, self.standard)
        fine = to_frame(stacked, rows_grid(rows, lesion_net.FRAME))  # (B, 2, 96, 96)
        return LungViews(
            rows,
            lungs_present(probability),
            to_frame(stacked[:, :1], rows_grid(rows, parts.FRAME)),
            fine[:, :1],
            fine[:, 1:],
            crop_lungs(gray, probability),
        )

    def fit_maps(self, maps: Sequence[torch.Tensor]) -> None:
        """Learn what the maps of healthy images are at each place.

        Args:
            maps: Cross-fitted maps of healthy images by each part, `(N, 1, h, w)`.
        """
        for healthy, part_maps in zip(self._healthy_part_maps, maps, strict=True):
            healthy.fit([part_maps.sqrt()])
        batches = zip(*(torch.split(each, parts.BATCH) for each in maps), strict=True)
        self.healthy_maps.fit(self._combine(batch) for batch in batches)

    def score_parts(self, views: LungViews) -> AtlasScores:
        """Score views by all parts, and by the mean of the lesion nets.

        Args:
            views: Views of `B` images.

        Returns:
            Scores and maps.
        """
        linear = [part(views.lungs) for part in self.atlas_parts]
        lesions = [detector(views.fine) for detector in self.lesion_detectors]
        scores = torch.stack([part.score for part in linear], dim=1)  # (B, 4)
        lesion_scores = torch.stack([each.scores for each in lesions]).mean(dim=0)  # (B, 2)
        lesion_map = torch.stack([each.map for each in lesions]).mean(dim=0)
        return AtlasScores(torch.cat([scores, lesion_scores], dim=1), [*(part.map for part in linear), lesion_map])

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike, of `image_size` rows.

        Returns:
            `pred_score` `(B,)`: standard deviations above the mean of healthy images of the same exposure.
            `anomaly_map` `(B, 1, H, W)`: deviation of each place from healthy lungs, on the scale of
            :class:`~anomalib_cxr.models.base.healthy_maps.HealthyMaps`; 0 outside the lungs.
        """
        return self.score(self.preprocess(images), images.shape[-2:])

    def score(self, views: LungViews, size: Sequence[int]) -> InferenceBatch:
        """Score views; see :meth:`forward`.

        Args:
            views: Views of `B` images.
            size: Height and width of the images.

        Returns:
            Scores and maps.
        """
        scores, maps = self.score_parts(views)
        deviations = self.exposure_adjustment(scores, views.crop)  # (B, 6)
        return InferenceBatch(
            pred_score=deviations @ self.weights,
            anomaly_map=from_rows(self.healthy_maps(self._combine(maps)), views.rows, (size[0], size[1])),
        )

    @property
    def _healthy_part_maps(self) -> list[HealthyMaps]:
        return [each for each in self.healthy_part_maps if isinstance(each, HealthyMaps)]

    def _combine(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the mean deviation of the parts' maps from healthy ones in the frame, `(B, 1, 96, 96)`.

        Roots are taken first: of squares, a single part's strongest places would outweigh all other parts.
        """
        deviations = [
            healthy.deviations(part_map.sqrt()) for healthy, part_map in zip(self._healthy_part_maps, maps, strict=True)
        ]
        resized = [antialiased_resize(each, lesion_net.FRAME) for each in deviations]
        return torch.cat(resized, dim=1).mean(dim=1, keepdim=True)
