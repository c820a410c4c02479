# ruff: noqa: PLR2004  # shares and sizes of what is drawn
"""Augmentation for the training of the input check, and what is made of X-rays to be refused."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.segmentation.training import augment


class Augmentation:
    """Random changes of batches of images in [0, 1], `(B, 1, S, S)`.

    Args:
        seed: Seed of all draws.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, count: int, low: float, high: float) -> torch.Tensor:
        """Draw a number for each image, `(B, 1, 1, 1)`."""
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=self.generator)

    def chosen(self, count: int, share: float) -> torch.Tensor:
        """Choose a share of the images: 1 or 0, `(B, 1, 1, 1)`."""
        return (torch.rand(count, 1, 1, 1, generator=self.generator) < share).float()

    def number(self, low: float, high: float) -> float:
        """Draw one number."""
        return float(low + (high - low) * torch.rand(1, generator=self.generator))

    def warp(
        self,
        images: torch.Tensor,
        turn: tuple[float, float],
        zoom: tuple[float, float],
        shift: float,
        *,
        stretch: float = 0.0,
        bend: float = 0.0,
    ) -> torch.Tensor:
        """Rotate, zoom and shift images, with a soft deformation; beyond the border is black, or the border goes on.

        Args:
            images: Images.
            turn: Least and greatest angle in degrees, to either side.
            zoom: Least and greatest size, 1 for as it is.
            shift: Greatest shift, share of the side.
            stretch: Greatest logarithm of the ratio of height and width.
            bend: Greatest soft displacement, share of the side.
        """  # fmt: skip
        count = len(images)
        angle = (self.uniform(count, *map(math.radians, turn)) * (1 - 2 * self.chosen(count, 0.5))).flatten()
        size = self.uniform(count, math.log(zoom[0]), math.log(zoom[1])).exp().flatten()
        ratio = self.uniform(count, -stretch / 2, stretch / 2).exp().flatten()
        dx, dy = (self.uniform(count, -2 * shift, 2 * shift).flatten() for _ in range(2))
        rows = [angle.cos() * ratio / size, -angle.sin() * ratio / size, dx]
        rows += [angle.sin() / ratio / size, angle.cos() / ratio / size, dy]
        grid = functional.affine_grid(torch.stack(rows, 1).reshape(-1, 2, 3), list(images.shape), align_corners=False)
        soft = torch.randn(count, 2, 4, 4, generator=self.generator) * bend
        field = functional.interpolate(soft, images.shape[-2:], mode="bicubic", align_corners=True)
        mode = "border" if self.number(0, 1) < 0.3 else "zeros"
        return functional.grid_sample(images, grid + field.movedim(1, -1), padding_mode=mode, align_corners=False)

    def posed(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return X-rays of other people: deformed, mirrored, with opacities in the lungs; and their lungs."""
        gray, lungs = augment(2 * images - 1, masks, self.generator)
        pairs = self.warp(torch.cat([(gray + 1) / 2, lungs], 1), (0, 6), (0.8, 1.2), 0.06, stretch=0.35, bend=0.02)
        return pairs[:, :1], pairs[:, 1:]

    def film(self, images: torch.Tensor) -> torch.Tensor:
        """Expose, window, blur and mark images of any kind, so that none of this tells the kinds apart."""
        count, side = len(images), images.shape[-1]
        images = images.clamp(0, 1) ** self.uniform(count, -0.7, 0.7).exp()
        coarse = torch.randn(count, 1, 3, 3, generator=self.generator) * 0.25
        shade = functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
        images = images * (1 + shade * self.chosen(count, 0.5))
        low, high = self.uniform(count, -0.15, 0.25), self.uniform(count, 0.7, 1.2)
        images = ((images - low) / (high - low)).clamp(0, 1)
        size = int(self.number(side / 3, side))
        soft = antialiased_resize(antialiased_resize(images, (size, size)), (side, side))
        images = torch.where(self.chosen(count, 0.3) > 0, soft, images)
        noise = torch.randn(images.shape, generator=self.generator) * self.uniform(count, 0, 0.1) ** 1.5
        images = images + noise
        for image in images:
            self._mark(image[0])
        return images.clamp(0, 1)

    def _mark(self, image: torch.Tensor) -> None:
        """Draw borders, letters and tubes into one image, in place."""
        side = len(image)
        if self.number(0, 1) < 0.4:
            for turn in range(4):
                if self.number(0, 1) < 0.5:
                    image.rot90(turn, (0, 1))[: int(self.number(1, 0.13 * side))] = self.number(-0.5, 1.1)
        for _ in range(int(self.number(0, 4.5))):
            top, left = (int(self.number(0, 0.9 * side)) for _ in range(2))
            height, width = int(self.number(2, 0.1 * side)), int(self.number(2, 0.25 * side))
            part = image[top : top + height, left : left + width]
            pattern = torch.rand(part.shape, generator=self.generator) < self.number(0.4, 1.2)
            part[pattern] = self.number(0.6, 1.1) if self.number(0, 1) < 0.8 else 0.0
        for _ in range(int(self.number(0, 2.2))):
            along = torch.linspace(0, 1, 2 * side)
            ends = torch.rand(3, 2, generator=self.generator) * 1.2 - 0.1
            curve = (1 - along[:, None]) ** 2 * ends[0] + 2 * along[:, None] * (1 - along[:, None]) * ends[1]
            rows, columns = ((curve + along[:, None] ** 2 * ends[2]) * side).long().clamp(0, side - 1).T
            image[rows, columns] += self.number(0.05, 0.4)

    def parts(self, images: torch.Tensor) -> torch.Tensor:
        """Return parts of X-rays, and X-rays that are too small, squeezed, or beside the middle."""
        return torch.cat([self._part(image[None], place) for place, image in enumerate(images)])

    def _part(self, image: torch.Tensor, place: int) -> torch.Tensor:
        side = image.shape[-1]
        kind = place % 7
        if kind == 5:  # shrunk or squeezed in a black or gray frame
            height, width = (int(self.number(*span) * side) for span in ((0.3, 1), (0.22, 0.42)))
            if self.number(0, 1) < 0.4:
                height, width = width, height
            frame = torch.full_like(image, self.number(-0.3, 0.5)).clamp(0, 1)
            top, left = int(self.number(0, side - height + 1)), int(self.number(0, side - width + 1))
            frame[..., top : top + height, left : left + width] = antialiased_resize(image, (height, width))
            return frame
        if kind == 6:  # half of it out of the frame
            move = int(self.number(0.38, 0.6) * side) * (1 if self.number(0, 1) < 0.5 else -1)
            axis = -1 if self.number(0, 1) < 0.6 else -2
            moved = image.roll(move, axis)
            lost = moved.movedim(axis, 0)
            (lost[:move] if move > 0 else lost[move:]).fill_(self.number(0, 0.6))
            return moved
        height, width = (
            (self.number(0.3, 0.55), self.number(0.3, 0.55)),  # anywhere
            (self.number(0.35, 0.6), self.number(0.4, 0.6)),  # a shoulder
            (self.number(0.35, 0.6), self.number(0.4, 0.6)),
            (self.number(0.7, 1.0), self.number(0.38, 0.5)),  # one lung
            (self.number(0.25, 0.45), self.number(0.6, 1.0)),  # the abdomen, or the neck
        )[kind]
        tall, wide = int(height * side), int(width * side)
        top = (
            0
            if kind in {1, 2}
            else (side - tall) * (self.number(0, 1) < 0.7)
            if kind == 4
            else self.number(0, 1) * (side - tall)
        )
        left = (side - wide) * (self.number(0, 1) < 0.5) if kind in {1, 2, 3} else self.number(0, 1) * (side - wide)
        part = image[..., int(top) : int(top) + tall, int(left) : int(left) + wide]
        return antialiased_resize(part, (side, side))

    def superposed(self, images: torch.Tensor) -> torch.Tensor:
        """Return one lung over the other, as in a lateral view, or one lung alone, at the whole width."""
        side = images.shape[-1]
        made = []
        for image in images:
            width = int(self.number(0.44, 0.54) * side)
            one, other = image[..., :width], image.flip(-1)[..., :width]
            share = self.number(0.25, 0.75) if self.number(0, 1) < 0.7 else 1.0
            mixed = share * one + (1 - share) * other
            wide = int(self.number(0.6, 1.0) * side)
            made.append(torch.zeros_like(image))
            left = int(self.number(0, side - wide + 1))
            made[-1][..., left : left + wide] = antialiased_resize(mixed[None], (side, wide))[0]
            if self.number(0, 1) < 0.5:
                made[-1] = made[-1].flip(-1)
        return self.warp(torch.stack(made), (0, 15), (0.9, 1.2), 0.06, bend=0.02)

    def without_lungs(self, images: torch.Tensor, lungs: torch.Tensor) -> torch.Tensor:
        """Return X-rays whose lungs are filled with the gray around them, or whose halves or rows are exchanged."""
        count, side = len(images), images.shape[-1]
        outside = (images * (1 - lungs)).sum((-2, -1), keepdim=True) / (1 - lungs).sum((-2, -1), keepdim=True)
        filled = images * (1 - lungs) + (outside + 0.2 * (images - outside)) * lungs
        exchanged = torch.cat([images[..., side // 2 :], images[..., : side // 2]], -1)
        turned = torch.cat([images[..., side // 2 :, :], images[..., : side // 2, :]], -2)
        which = torch.randint(3, (count, 1, 1, 1), generator=self.generator)
        return torch.where(which == 0, filled, torch.where(which == 1, exchanged, turned))
