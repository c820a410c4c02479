"""Augmentation of chest X-rays for lung segmentation: other machines, other films, other chests, and none at all.

The X-rays of one hospital come from one machine. What others do to an image is drawn here: exposure, windowing, local
contrast, blur and noise, borders and strips of film, letters, tubes, haze. Disease is painted over the lungs while
the mask stays, so that diseased lungs do not shrink. Some images become what is no upright frontal chest, and get an
empty mask: turned chests, bright shapes on black, patterns, noise.

Everything is drawn by one generator on the CPU, a batch at a time.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

ROTATION, SHEAR, SCALE, STRETCH, SHIFT = math.radians(10), 0.12, 0.25, 0.15, 0.12
"""Greatest rotation, shear, logarithms of the scale and of the ratio of both axes, and shift (share of half a side)."""
ELASTIC = 0.03
"""Standard deviation of the displacement of the elastic deformation (share of half a side)."""
GAMMA = 0.7
"""Greatest logarithm of the exponent of the gray values."""
NO_CHEST = 0.1
"""Default share of the images that become something else than an upright frontal chest."""


def augment_for_machines(
    images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator, no_chest: float = NO_CHEST
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment a batch.

    Args:
        images: X-rays in [-1, 1], `(B, 1, S, S)`.
        masks: Lung masks, 0 to 1, `(B, 1, S, S)`.
        generator: Source of the draws, on the CPU.
        no_chest: Share of the images that become something else than an upright frontal chest.

    Returns:
        Images in [-1, 1] and masks of the same shapes.
    """
    draw = Draws(generator, len(images))
    gray, masks = deform((images + 1) / 2, masks, draw)
    gray = add_disease(gray, masks, draw)
    gray = add_devices(gray, draw)
    gray = change_exposure(gray, draw)
    gray, masks = add_film(gray, masks, draw)
    gray = change_sharpness(gray, draw)
    gray, masks = replace_by_no_chest(gray, masks, draw, no_chest)
    return 2 * gray.clamp(0, 1) - 1, masks


class Draws:
    """Random numbers for each image of a batch.

    Args:
        generator: Their source.
        count: Number of images.
    """

    def __init__(self, generator: torch.Generator, count: int) -> None:
        self.generator, self.count = generator, count

    def between(self, low: float, high: float) -> torch.Tensor:
        """Draw a number for each image, `(B, 1, 1, 1)`."""
        return low + (high - low) * torch.rand(self.count, 1, 1, 1, generator=self.generator)

    def chosen(self, probability: float) -> torch.Tensor:
        """Choose images, `(B, 1, 1, 1)`, 0 or 1."""
        return (self.between(0, 1) < probability).float()

    def number(self, low: int, high: int) -> int:
        """Draw one whole number for the whole batch, bounds included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def field(self, grain: int, size: int, channels: int = 1) -> torch.Tensor:
        """Draw a smooth normal field, `(B, channels, size, size)`, with `grain` independent values along a side."""
        coarse = torch.randn(self.count, channels, grain, grain, generator=self.generator)
        return functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        """Draw a standard normal number for each pixel."""
        return torch.randn(like.shape, generator=self.generator)


def blend(first: torch.Tensor, second: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Mix two images: the second with a share in [0, 1]."""
    return first + share * (second - first)


def coordinates(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y of each pixel in [-1, 1], `(1, 1, size, size)` each."""
    axis = torch.linspace(-1, 1, size)
    return axis.reshape(1, 1, 1, -1).expand(1, 1, size, size), axis.reshape(1, 1, -1, 1).expand(1, 1, size, size)


def deform(gray: torch.Tensor, masks: torch.Tensor, draw: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate, shear, scale, shift, mirror and bend; beyond the border is black, or the border goes on."""
    size = gray.shape[-1]
    turn, shear = draw.between(-ROTATION, ROTATION).flatten(), draw.between(-SHEAR, SHEAR).flatten()
    scale = draw.between(-SCALE, SCALE).flatten().exp()
    stretch = draw.between(-STRETCH, STRETCH).flatten().exp()
    mirror = 1 - 2 * draw.chosen(0.5).flatten()
    shift_x, shift_y = (draw.between(-SHIFT, SHIFT).flatten() for _ in range(2))
    x_axis, y_axis = mirror * scale * stretch, scale / stretch
    rows = [
        turn.cos() * x_axis,
        (shear - turn.sin()) * y_axis,
        shift_x,
        turn.sin() * x_axis,
        turn.cos() * y_axis,
        shift_y,
    ]
    theta = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(theta, list(gray.shape), align_corners=False)
    grid = grid + ELASTIC * draw.between(0, 1) * draw.field(5, size, 2).permute(0, 2, 3, 1)
    black = functional.grid_sample(gray, grid, align_corners=False)
    continued = functional.grid_sample(gray, grid, align_corners=False, padding_mode="border")
    masks = functional.grid_sample(masks, grid, align_corners=False)
    return blend(black, continued, draw.chosen(0.5)), masks


def add_disease(gray: torch.Tensor, masks: torch.Tensor, draw: Draws) -> torch.Tensor:
    """Paint clouds, effusions, white lungs and nodules over the lungs, and haze over everything."""
    size = gray.shape[-1]
    x, y = coordinates(size)
    white = (gray.amax((-2, -1), keepdim=True) * draw.between(0.6, 1)).clamp(min=0.4)
    soft = functional.avg_pool2d(masks, 5, 1, 2, count_include_pad=False)  # no edge where the lung ends
    clouds = torch.sigmoid(draw.between(1, 8) * (draw.field(draw.number(3, 10), size) - draw.between(-1, 1.2)))
    gray = blend(gray, white, draw.chosen(0.45) * draw.between(0.1, 1) * soft * clouds)
    side = torch.sigmoid(20 * (x - draw.between(-0.1, 0.1)) * (1 - 2 * draw.chosen(0.5)))
    is_lung = masks.round() > 0
    lungs_top = torch.where(is_lung, y, torch.tensor(2.0)).amin((-2, -1), keepdim=True)
    lungs_bottom = torch.where(is_lung, y, torch.tensor(-2.0)).amax((-2, -1), keepdim=True)
    level = blend(lungs_bottom, lungs_top, draw.between(0, 0.9) ** 2)
    meniscus = draw.between(-0.3, 0.3) * x + 0.05 * draw.field(4, size)
    fluid = torch.sigmoid(draw.between(10, 40) * (y + meniscus - level))
    one_side = blend(side, torch.ones(()), draw.chosen(0.25))
    gray = blend(gray, white, draw.chosen(0.3) * draw.between(0.4, 1) * soft * fluid * one_side)
    gray = blend(gray, white, draw.chosen(0.06) * draw.between(0.4, 0.95) * soft * side)
    spots = torch.sigmoid(12 * (draw.field(draw.number(12, 24), size) - draw.between(1.2, 2.2)))
    gray = blend(gray, white, draw.chosen(0.2) * draw.between(0.1, 0.8) * soft * spots)
    haze = torch.sigmoid(draw.field(3, size) + draw.between(-1, 1))
    return blend(gray, draw.between(0.3, 0.9), draw.chosen(0.35) * draw.between(0.1, 0.65) * haze)


def add_devices(gray: torch.Tensor, draw: Draws) -> torch.Tensor:
    """Draw tubes and wires, bright and thin, and pacemakers, bright and compact."""
    size = gray.shape[-1]
    x, y = coordinates(size)
    for _ in range(2):
        bend = (
            draw.between(-1, 1)
            + draw.between(-1, 1) * y
            + draw.between(-0.5, 0.5) * torch.sin(4 * y + draw.between(0, 6))
        )
        upright = draw.chosen(0.7)
        away = blend(y - bend.transpose(-2, -1), x - bend, upright)
        along = blend(x, y, upright)
        begins, ends = draw.between(-1.2, 0), draw.between(0, 1.2)
        line = torch.exp(-((away / draw.between(0.008, 0.02)) ** 2)) * ((along > begins) & (along < ends))
        gray = blend(gray, draw.between(0.7, 1), draw.chosen(0.25) * draw.between(0.2, 1) * line)
    distance = torch.maximum((x - draw.between(-0.8, 0.8)).abs(), (y - draw.between(-0.8, 0.8)).abs())
    box = torch.sigmoid(60 * (draw.between(0.04, 0.15) - distance))
    return blend(gray, draw.between(0.8, 1), draw.chosen(0.1) * box)


def change_exposure(gray: torch.Tensor, draw: Draws) -> torch.Tensor:
    """Change window, gamma, the balance of coarse and fine contrast, and the light from side to side."""
    size = gray.shape[-1]
    x, y = coordinates(size)
    low, high = draw.between(-0.25, 0.25), draw.between(0.65, 1.4)
    gray = ((gray - low) / (high - low)).clamp(0, 1) ** draw.between(-GAMMA, GAMMA).exp()
    window = 2 * (size // draw.number(5, 10)) + 1
    coarse = functional.avg_pool2d(gray, window, 1, window // 2, count_include_pad=False)
    local = (gray - coarse) * draw.between(0.6, 2.2) + blend(
        coarse, coarse.mean((-2, -1), keepdim=True), draw.between(0, 0.7)
    )
    gray = blend(gray, local, draw.chosen(0.4)).clamp(0, 1)
    return gray + draw.chosen(0.3) * (draw.between(-0.2, 0.2) * x + draw.between(-0.2, 0.2) * y)


def add_film(gray: torch.Tensor, masks: torch.Tensor, draw: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Add borders around the exposed field, strips, and letters; where a border hides the lung, there is none."""
    size = gray.shape[-1]
    x, y = coordinates(size)
    tilt = draw.between(-0.06, 0.06)
    across, down = x + tilt * y, y - tilt * x
    inside = (across > draw.between(-1.2, -0.72)) & (across < draw.between(0.72, 1.2))
    inside &= (down > draw.between(-1.2, -0.72)) & (down < draw.between(0.8, 1.2))
    hidden = (1 - inside.float()) * draw.chosen(0.4)
    shade = blend(torch.zeros(()), draw.between(0, 1), draw.chosen(0.3))
    gray, masks = blend(gray, shade, hidden), masks * (1 - hidden)
    strip = ((y < draw.between(-1, -0.85)) | (x > draw.between(0.9, 1))).float() * draw.chosen(0.2)
    gray, masks = blend(gray, draw.between(0, 1), strip), masks * (1 - strip)
    # Letters: blocks of strokes, which at this size is all that is left of them.
    for _ in range(2):
        center_x, center_y = draw.between(-0.95, 0.95), draw.between(-0.95, 0.95)
        width, height = draw.between(0.03, 0.2), draw.between(0.03, 0.08)
        block = ((x - center_x).abs() < width) & ((y - center_y).abs() < height)
        strokes = draw.noise(gray[..., : size // 2, : size // 2])
        strokes = functional.interpolate(strokes, (size, size), mode="nearest") > draw.between(-1, 0.5)
        gray = blend(gray, draw.between(0.8, 1), draw.chosen(0.3) * (block & strokes))
    return gray, masks


def change_sharpness(gray: torch.Tensor, draw: Draws) -> torch.Tensor:
    """Resample from fewer pixels, blur or sharpen, and add noise."""
    size = gray.shape[-1]
    fewer = draw.number(size // 3, size)
    small = functional.interpolate(gray, (fewer, fewer), mode="bilinear", antialias=True)
    resampled = functional.interpolate(small, (size, size), mode="bilinear")
    gray = blend(gray, resampled, draw.chosen(0.3))
    near = functional.avg_pool2d(gray, 3, 1, 1, count_include_pad=False)
    gray = blend(gray, near, draw.between(-1.5, 1))
    return gray + draw.chosen(0.5) * draw.between(0, 0.06) * draw.noise(gray)


def replace_by_no_chest(
    gray: torch.Tensor, masks: torch.Tensor, draw: Draws, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn some chests by a quarter or upside down, and replace some by shapes, patterns or noise; no lung there."""
    size = gray.shape[-1]
    x, y = coordinates(size)
    turned = gray.rot90(draw.number(1, 3), (-2, -1))
    angle, waves = draw.between(0, math.pi), draw.between(1, 25)
    grating = 0.5 + 0.5 * torch.sin(waves * (x * angle.cos() + y * angle.sin()) + draw.between(0, 6))
    clouds = torch.sigmoid(3 * draw.field(draw.number(2, size // 2), size))
    bent = x * angle.cos() + y * angle.sin() + 0.1 * draw.field(3, size)
    along = y * angle.cos() - x * angle.sin()
    bone = torch.zeros_like(gray)
    for _ in range(4):  # bright rods with knobs on dark: limbs, or what is left of them
        radius = draw.between(0.04, 0.25) * (1 + draw.between(0, 1) * torch.cos(draw.between(1, 6) * along))
        rod = torch.sigmoid(25 * (radius - (bent - draw.between(-0.8, 0.8)).abs()))
        bone = torch.maximum(bone, draw.between(0.3, 1) * rod)
    disc = torch.sigmoid(
        30 * (draw.between(0.2, 0.9) - torch.hypot(x - draw.between(-0.3, 0.3), y * draw.between(0.7, 1.4)))
    )
    slice_like = disc * blend(draw.between(0.3, 1), clouds, draw.between(0, 1))
    kinds = torch.stack([grating, clouds, bone, slice_like])
    which = torch.randint(len(kinds), (draw.count,), generator=draw.generator)
    drawn = kinds[which, torch.arange(draw.count)]
    drawn = drawn + draw.between(0, 0.08) * draw.noise(gray)
    replaced = draw.chosen(share)
    gray = blend(gray, blend(turned, drawn, draw.chosen(0.5)), replaced)
    return gray, masks * (1 - replaced)
