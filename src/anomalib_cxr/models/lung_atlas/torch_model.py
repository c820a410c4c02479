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

from . import parts
from .combination import WEIGHTS, Combination
from .neighbors import PatchNeighbors
from .parts import AtlasPart, FocalResidual, SubspaceResidual, by_lungs, join_scores, locally
from .texture import TextureResidual

N_SCORES = len(WEIGHTS)
"""Scores of an image by all parts."""
MAP = (96, 96)
"""Rows and columns of the joint map of the parts."""


class LungViews(NamedTuple):
    """Views of the lungs of X-rays, the inputs of the parts."""

    rows: Rows
    """Ends and edges of the lungs."""
    found: torch.Tensor
    """True for each lung that was found, `(B, 2)`."""
    lungs: torch.Tensor
    """Frames in [0, 1], `(B, 1, 64, 80)`."""
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
    """Two of the first part, one of each other, `(B, 5)`; the higher the less healthy."""
    maps: list[torch.Tensor]
    """Map of each part, at least 0, `(B, 1, h, w)`, of sizes of their own."""


class LungAtlasModel(nn.Module):
    """Scores the deviation of lungs, aligned to a common frame, from healthy ones.

    Args:
        image_size: Side of the square image.
        n_components: Dimensions of the subspaces of healthy gray values.
        n_textures: Dimensions of the subspace of healthy textures.
        n_dims: Dimensions of a patch's description.
        n_bank: Healthy patches that are kept for each place.

    Example:
        >>> model = LungAtlasModel(n_bank=8).eval()
        >>> scores = model(torch.zeros(2, 3, 128, 128))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 128, 128]))
    """

    def __init__(
        self,
        image_size: int = 128,
        n_components: int = 400,
        n_textures: int = 200,
        n_dims: int = 24,
        n_bank: int = 1024,
    ) -> None:
        super().__init__()
        self.segmenter = FrozenSegmenter(64)
        self.parts = nn.ModuleDict(
            {
                "residual_local": FocalResidual(locally, n_components),
                "residual_lungs": SubspaceResidual(by_lungs, n_components),
                "neighbors": PatchNeighbors(locally, n_dims, n_bank),
                "texture": TextureResidual(n_textures),
            }
        )
        self.exposure_adjustment = ExposureAdjustment(N_SCORES)
        self.combination = Combination()
        for name, value in zip(Rows._fields, standard_rows(image_size), strict=True):
            self.register_buffer(f"standard_{name}", value.contiguous())
        self.healthy_part_maps = nn.ModuleList(HealthyMaps(part.grid) for part in self.atlas_parts)
        self.healthy_maps = HealthyMaps(MAP)

    @property
    def atlas_parts(self) -> list[AtlasPart]:
        """Return the parts in their order."""
        return [part for part in self.parts.values() if isinstance(part, AtlasPart)]

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
        rows = find_rows(probability, self.standard)
        lungs = to_frame((gray + 1) / 2, rows_grid(rows, parts.FRAME))
        return LungViews(rows, lungs_present(probability), lungs, crop_lungs(gray, probability))

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
        """Score views by all parts.

        Args:
            views: Views of `B` images.

        Returns:
            Scores and maps.
        """
        scored = [part(views.lungs) for part in self.atlas_parts]
        return AtlasScores(join_scores([part.score for part in scored]), [part.map for part in scored])

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
        deviations = self.exposure_adjustment(scores, views.crop)  # (B, 5)
        return InferenceBatch(
            pred_score=self.combination(deviations),
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
        resized = [antialiased_resize(each, MAP) for each in deviations]
        return torch.cat(resized, dim=1).mean(dim=1, keepdim=True)
