"""Input of the networks: X-rays cropped, aligned, normalized or masked by their lungs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from anomalib_cxr.functional import apply_roi
from anomalib_cxr.functional.alignment import MIN_LUNG_AREA, Alignment, Box, Rows, find_box, find_rows, standard_rows
from anomalib_cxr.functional.frames import (
    box_grid,
    frame_lung_mask,
    from_box,
    from_rows,
    rows_grid,
    stack_lungs,
    to_frame,
    unstack_lungs,
)
from anomalib_cxr.functional.normalization import Normalization, normalize_by_lungs, normalize_locally

LOCAL = 1 / 8
"""Standard deviation of the Gaussian of local normalization, a share of the side of the input."""
REACH = 3.0
"""Standard deviations that fill the range of the networks, [-1, 1]."""
LIKELY = 0.5
"""Probability above which a pixel counts as lung."""


class Frame(NamedTuple):
    """Place of the networks' input in each X-ray."""

    place: Box | Rows | None
    """None where the input is the whole X-ray."""
    side: int
    """Side of the square input."""

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """Warp images into the frame.

        Args:
            images: X-rays, or maps of them, `(B, C, H, W)`.

        Returns:
            The same in the frame, `(B, C, S, S)`.
        """
        if self.place is None:
            return images
        size = (self.side, self.side)
        grid = box_grid(self.place, size) if isinstance(self.place, Box) else rows_grid(self.place, size)
        return to_frame(images, grid)

    def back(self, maps: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
        """Warp maps from the frame back onto X-rays.

        Args:
            maps: Maps, at least 0, `(B, C, S, S)`.
            onto: The X-rays, `(B, C, H, W)`.

        Returns:
            The maps on the X-rays, `(B, C, H, W)`; 0 outside the frame.
        """
        if self.place is None:
            return maps
        size = (onto.shape[-2], onto.shape[-1])
        return from_box(maps, self.place, size) if isinstance(self.place, Box) else from_rows(maps, self.place, size)


class Inputs(NamedTuple):
    """Input of the networks."""

    image: torch.Tensor
    """Intensities in [-1, 1], `(B, 1, S, S)`, black outside the region."""
    region: torch.Tensor | None
    """1 where the X-ray was kept, 0 elsewhere, `(B, 1, S, S)`; None where all of it was."""
    lungs: torch.Tensor | None
    """1 in the lungs, 0 elsewhere, `(B, 1, S, S)`; None without a segmenter."""
    frame: Frame


@dataclass(frozen=True)
class LungFrames:
    """Preparation of X-rays for the networks.

    Args:
        image_size: Side of the square input.
        alignment: `none` for the X-ray as it comes; `box` for the bounding box of both lungs; `rows` for both lungs
            side by side, each row stretched between the lung's edges.
        normalization: `global` for gray values as they come; `lung` and `local` for deviations from the lungs' or from
            the local mean, clamped at three standard deviations.
        lungs_only: True where all but the lungs is black.
    """

    image_size: int
    alignment: Alignment = "none"
    normalization: Normalization = "global"
    lungs_only: bool = False

    @property
    def needs_lungs(self) -> bool:
        """Return True where the lungs must be segmented first."""
        return self.lungs_only or self.alignment != "none" or self.normalization == "lung"

    def preprocess(self, gray: torch.Tensor, probability: torch.Tensor | None) -> Inputs:
        """Align, normalize and mask X-rays.

        Where a lung is not found, `rows` takes its standard place; where neither is found, `box` is the whole image,
        and `lung` normalizes by all of the input.

        Args:
            gray: X-rays in [-1, 1], `(B, 1, H, W)`.
            probability: Probability of lung, alike in shape; None where it is not needed.

        Returns:
            The inputs.
        """
        if probability is None:
            return Inputs(self._normalize(gray, None), None, None, Frame(None, self.image_size))
        frame = self._frame(probability)
        lungs = self._lungs(frame, probability)  # (B, 1, S, S)
        image = self._normalize(frame.of(gray), lungs)  # (B, 1, S, S)
        region = lungs if self.lungs_only else None
        return Inputs(apply_roi(image, region), region, lungs, frame)

    def _frame(self, probability: torch.Tensor) -> Frame:
        if self.alignment == "none":
            return Frame(None, self.image_size)
        if self.alignment == "box":
            return Frame(find_box(probability), self.image_size)
        standard = Rows(*(edge.to(probability) for edge in standard_rows(probability.shape[-2])))
        return Frame(find_rows(probability, standard), self.image_size)

    def _lungs(self, frame: Frame, probability: torch.Tensor) -> torch.Tensor:
        """Return where the lungs are in the frame: that of rows is stretched over them, whatever their shape."""
        if self.alignment == "rows":
            inside = frame_lung_mask((self.image_size, self.image_size), probability)
            return inside.expand(probability.shape[0], 1, -1, -1)
        return (frame.of(probability) > LIKELY).to(probability.dtype)

    def _normalize(self, gray: torch.Tensor, lungs: torch.Tensor | None) -> torch.Tensor:
        if self.normalization == "global":
            return gray
        light, sigma = (gray + 1) / 2, LOCAL * gray.shape[-2]
        if self.normalization == "lung" and lungs is not None:
            found = lungs.mean(dim=(1, 2, 3), keepdim=True) > MIN_LUNG_AREA
            deviations = normalize_by_lungs(light, torch.where(found, lungs, torch.ones_like(lungs)))
        elif self.alignment == "rows":
            deviations = unstack_lungs(normalize_locally(stack_lungs(light), sigma))
        else:
            deviations = normalize_locally(light, sigma)
        return (deviations / REACH).clamp(-1, 1)
