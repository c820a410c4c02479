"""What the networks see of an X-ray: all of it or the frame of its lungs, in which intensities, cut out or not."""

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
"""Standard deviation of the Gaussian that says what is local, a share of the side of what is seen."""
REACH = 3.0
"""Standard deviations that fill the range of the networks, [-1, 1]."""
LIKELY = 0.5


class Frame(NamedTuple):
    """Where in each X-ray lies what the networks see."""

    place: Box | Rows | None
    """None where they see all of it."""
    side: int
    """Of the square that they see."""

    def of(self, pictures: torch.Tensor) -> torch.Tensor:
        """Take pictures of X-rays, `(B, C, H, W)`, into the frame."""
        if self.place is None:
            return pictures
        size = (self.side, self.side)
        grid = box_grid(self.place, size) if isinstance(self.place, Box) else rows_grid(self.place, size)
        return to_frame(pictures, grid)

    def back(self, maps: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
        """Take maps, at least 0, from the frame back onto X-rays, `(B, C, H, W)`; 0 outside the frame."""
        if self.place is None:
            return maps
        size = (onto.shape[-2], onto.shape[-1])
        return from_box(maps, self.place, size) if isinstance(self.place, Box) else from_rows(maps, self.place, size)


class Seen(NamedTuple):
    """What the networks see of X-rays."""

    image: torch.Tensor
    """Intensities in [-1, 1], `(B, 1, S, S)`, black outside the region."""
    region: torch.Tensor | None
    """1 where the X-ray was kept, 0 elsewhere, `(B, 1, S, S)`; None where all of it was."""
    lungs: torch.Tensor | None
    """1 in the lungs, 0 elsewhere, `(B, 1, S, S)`; None where nothing finds them."""
    frame: Frame


@dataclass(frozen=True)
class View:
    """How X-rays are shown to the networks.

    Args:
        image_size: Side of the square that they see.
        alignment: `none` for the X-ray as it comes; `box` for the rectangle around both lungs; `rows` for both lungs
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
        """Whether something must find the lungs first."""
        return self.lungs_only or self.alignment != "none" or self.normalization == "lung"

    def show(self, gray: torch.Tensor, probability: torch.Tensor | None) -> Seen:
        """Show X-rays.

        A lung that is not found is looked for at its standard place by `rows`; where neither is found, `box` is the
        whole image, and `lung` normalizes by all that is seen.

        Args:
            gray: X-rays in [-1, 1], `(B, 1, H, W)`.
            probability: Of lung, alike in shape; None where it is not needed.
        """
        if probability is None:
            return Seen(self._normalize(gray, None), None, None, Frame(None, self.image_size))
        frame = self._frame(probability)
        lungs = self._lungs(frame, probability)
        image = self._normalize(frame.of(gray), lungs)
        region = lungs if self.lungs_only else None
        return Seen(apply_roi(image, region), region, lungs, frame)

    def _frame(self, probability: torch.Tensor) -> Frame:
        if self.alignment == "none":
            return Frame(None, self.image_size)
        if self.alignment == "box":
            return Frame(find_box(probability), self.image_size)
        standard = Rows(*(each.to(probability) for each in standard_rows(probability.shape[-2])))
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
