"""The atlas as one module: from an X-ray to lungs in their frame, to the findings of each part, to one score and a map.

The way of an image is the same in training, validation and an exported graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.functional.alignment import Rows, find_rows, lungs_present, standard_rows
from anomalib_cxr.functional.exposure import exposure_covariates
from anomalib_cxr.functional.frames import from_rows, rows_grid, to_frame
from anomalib_cxr.models.base.exposure import SIDE, ExposureCalibration, boxed
from anomalib_cxr.models.base.module import to_gray
from anomalib_cxr.models.base.segmenter import FrozenSegmenter

from . import lesion_net as lesion_view
from . import parts
from .lesion_net import N_SCORES, LesionFinder
from .neighbors import PatchNeighbors
from .parts import LEAST, AtlasPart, by_lungs, locally
from .residuals import SubspaceResidual, TextureResidual
from .views import View


class Findings(NamedTuple):
    """What all parts say."""

    scores: torch.Tensor
    """One of each part, two of the lesion nets, `(B, 6)`; the higher the less healthy."""
    places: list[torch.Tensor]
    """Each part's map, at least 0, `(B, 1, h, w)`, of sizes of their own."""


class LungAtlasModel(nn.Module):
    """Compares lungs, warped into one frame, with what healthy ones look like there.

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
        self.lungs = FrozenSegmenter(segmenter_size)
        self.parts = nn.ModuleDict(
            {
                "residual_local": SubspaceResidual(locally, n_components),
                "residual_lungs": SubspaceResidual(by_lungs, n_components),
                "neighbors": PatchNeighbors(locally, n_dims, n_bank),
                "texture": TextureResidual(n_textures),
            }
        )
        self.finders = nn.ModuleList(LesionFinder() for _ in range(n_folds))
        self.calibration = ExposureCalibration(len(self.parts) + N_SCORES)
        self.register_buffer("weights", torch.ones(len(self.parts) + N_SCORES))
        for name, value in zip(Rows._fields, standard_rows(image_size), strict=True):
            self.register_buffer(f"standard_{name}", value.contiguous())
        self.register_buffer("inside", torch.zeros(SIDE, SIDE, dtype=torch.bool))
        self.register_buffer("outside", torch.ones(SIDE, SIDE, dtype=torch.bool))
        sizes = [part.grid for part in self.atlas_parts] + [lesion_view.MAP]
        for name, size in zip((*self.parts, "lesions"), sizes, strict=True):
            self.register_buffer(f"usual_{name}", torch.ones(1, 1, *size))

    weights: torch.Tensor
    inside: torch.Tensor
    outside: torch.Tensor

    @property
    def atlas_parts(self) -> list[AtlasPart]:
        """Return the linear parts in their order."""
        return [part for part in self.parts.values() if isinstance(part, AtlasPart)]

    @property
    def lesion_finders(self) -> list[LesionFinder]:
        """Return the lesion nets in their order."""
        return [finder for finder in self.finders if isinstance(finder, LesionFinder)]

    @property
    def standard(self) -> Rows:
        """Return where healthy lungs are, for images in which a lung is not found."""
        return Rows(*(getattr(self, f"standard_{name}") for name in Rows._fields))

    def see(self, images: torch.Tensor) -> View:
        """Warp X-rays in [-1, 1], `(B, C, H, W)`, into the frames of the parts."""
        gray = to_gray(images)
        probability = self.lungs(gray)  # (B, 1, H, W)
        both = torch.cat([(gray + 1) / 2, probability], dim=1)
        rows = find_rows(probability, self.standard)
        fine = to_frame(both, rows_grid(rows, lesion_view.FRAME))
        return View(
            rows,
            lungs_present(probability),
            to_frame(both[:, :1], rows_grid(rows, parts.FRAME)),
            fine[:, :1],
            fine[:, 1:],
            torch.cat(boxed(gray, probability), dim=1),
        )

    def take_usual(self, places: list[torch.Tensor]) -> None:
        """Count maps from now on in units of their means over healthy images, each `(N, 1, h, w)`."""
        for name, each in zip((*self.parts, "lesions"), places, strict=True):
            getattr(self, f"usual_{name}").copy_(each.mean(dim=0, keepdim=True).clamp(min=LEAST))

    def exposure(self, box: torch.Tensor) -> torch.Tensor:
        """Measure the exposure in boxes, `(B, 2, 64, 64)`: `(B, 3)`."""
        return exposure_covariates(box[:, :1], self.inside, self.outside)

    def find(self, view: View) -> Findings:
        """Ask all parts, and the mean of the lesion nets."""
        findings = [part(view.lungs) for part in self.atlas_parts]
        lesions = [finder(view.fine) for finder in self.lesion_finders]
        scores = torch.stack([finding.score for finding in findings], dim=1)
        of_lesions = torch.stack([each.scores for each in lesions]).mean(dim=0)
        places = torch.stack([each.places for each in lesions]).mean(dim=0)
        return Findings(torch.cat([scores, of_lesions], dim=1), [*(finding.places for finding in findings), places])

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike, of `image_size` rows.

        Returns:
            `pred_score` `(B,)`: by how many standard deviations of healthy images of such an exposure the findings are
            less healthy than their mean. `anomaly_map` `(B, 1, H, W)`: how many times as much each place deviates as
            it does in healthy lungs, at least 0; 0 outside the lungs.
        """
        return self.judge(self.see(images), images.shape[-2:])

    def judge(self, view: View, size: Sequence[int]) -> InferenceBatch:
        """Score what was seen of images of this height and width; see :meth:`forward`."""
        findings = self.find(view)
        deviations = self.calibration(findings.scores, self.exposure(view.box))  # (B, 6)
        return InferenceBatch(
            pred_score=deviations @ self.weights,
            anomaly_map=from_rows(self._map(findings.places), view.rows, (size[0], size[1])),
        )

    def _map(self, places: list[torch.Tensor]) -> torch.Tensor:
        """Join the parts' maps in the frame, `(B, 1, 96, 96)`, each in units of healthy lungs."""
        joined = []
        for name, each in zip((*self.parts, "lesions"), places, strict=True):
            relative = each / getattr(self, f"usual_{name}")
            joined.append(antialiased_resize(relative, lesion_view.FRAME))
        return torch.cat(joined, dim=1).mean(dim=1, keepdim=True)
