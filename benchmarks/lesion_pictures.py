"""A picture of each kind of synthetic lesion, on phantoms.

    python benchmarks/lesion_pictures.py --output docs/images/lesions.png --seed 6

Paints lesions of each kind into a few healthy phantoms, cut to the box of their lungs, and orders them by how much they
change. Of each kind it shows one of the strongest and one of the upper third: the others are fainter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.functional.alignment import find_box
from anomalib_cxr.functional.frames import box_grid, to_frame
from anomalib_cxr.functional.lesions import KINDS, gray_levels

COLUMNS = 6
SHOWN = (0.1, 0.3)
"""Which of the examples are shown: how many change the image more, as a share."""
INCHES = 1.6


def healthy_frames(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw healthy phantoms, cut to the box of their lungs, and their lungs, each `(count, 1, size, size)`."""
    phantoms = [draw_phantom(np.random.default_rng(seed)) for seed in range(count)]
    images, lungs = (
        torch.from_numpy(np.stack([np.asarray(each, np.float32) for each in kind])).unsqueeze(1)
        for kind in ([phantom.image for phantom in phantoms], [phantom.lungs for phantom in phantoms])
    )
    grid = box_grid(find_box(lungs), (size, size))
    return to_frame(images, grid), to_frame(lungs, grid)


def examples(frames: torch.Tensor, lungs: torch.Tensor, draws: int, seed: int) -> dict[str, torch.Tensor]:
    """Paint each kind and return the examples to show, `(2, 1, size, size)` of each; healthy frames come first."""
    shown = {"healthy": frames[: len(SHOWN)]}
    levels = gray_levels(frames, lungs)
    for kind, paint in KINDS.items():
        generator = torch.Generator().manual_seed(seed)
        painted = torch.stack([paint(frames, lungs, levels, generator).clamp(0, 1) for _ in range(draws)])
        change = (painted - frames).abs().mean(dim=(2, 3, 4)).flatten()
        order = change.argsort(descending=True)
        shown[kind] = painted.flatten(0, 1)[[int(order[int(share * len(order))]) for share in SHOWN]]
    return shown


def main(
    output: Path = Path("results/lesions.png"), count: int = 3, draws: int = 10, size: int = 144, seed: int = 0
) -> None:
    """Draw the picture.

    Args:
        output: The PNG file to write.
        count: Phantoms that each kind is painted into.
        draws: Lesions of a kind that are painted into each of them.
        size: Side of a frame in pixels.
        seed: Seed of the lesions.
    """
    shown = examples(*healthy_frames(count, size), draws, seed)
    rows = -(-len(shown) // COLUMNS) * len(SHOWN)
    figure = Figure(figsize=(COLUMNS * INCHES, rows * INCHES * 1.06), layout="constrained")
    axes = figure.subplots(rows, COLUMNS)
    for number, (kind, frames) in enumerate(shown.items()):
        row, column = divmod(number, COLUMNS)
        for example, frame in enumerate(frames):
            panel = axes[row * len(SHOWN) + example, column]
            panel.imshow(frame[0], cmap="gray", vmin=0, vmax=1)
            panel.set_title("" if example else kind, fontsize=9)
    for panel in axes.flat:
        panel.set_axis_off()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=100)


if __name__ == "__main__":
    auto_cli(main)
