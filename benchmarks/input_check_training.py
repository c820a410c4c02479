"""Training of the network of the input check.

    python benchmarks/input_check_training.py datasets/montgomery_shenzhen --output results/input_check

Frontal X-rays are those of Montgomery County with their lung masks (65 normal, 43 with tuberculosis; public domain) and
phantoms. What is to be refused is made of them (turned, inverted, parts, one lung over the other, lungs filled) or
drawn: `frontal_drawings.py`. All are heavily augmented: `frontal_augmentation.py`. No other image takes part. Writes
`frontal.safetensors`, to be put into `src/anomalib_cxr/screening/pipeline/`; its SHA-256 is printed. An hour on a core.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from frontal_augmentation import Augmentation
from frontal_drawings import draw_lateral_chests, draw_others
from frontal_network import FrontalNetwork, pack
from jsonargparse import auto_cli
from rich.progress import track
from torch.nn import functional

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.screening.pipeline.frontal_graph import KINDS, SIDE
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.provenance import code_record, write_record

DRAWN_SIDE = 96
_FINDINGS = (None, None, None, "consolidation", "nodules", "cavity", "effusion", "miliary")
_SHARES = (40, 7, 7, 6, 6, 6, 16, 16, 24)
"""Images of each kind in a batch."""


class Batches:
    """Batches of augmented images with their kinds and lungs.

    Args:
        images: Frontal X-rays in [0, 1], `(N, 1, S, S)`.
        lungs: Their lungs, `(N, 1, S, S)`.
        seed: Seed of all draws.
        n_drawn: Number of drawings and phantoms of each sort.
    """

    def __init__(self, images: torch.Tensor, lungs: torch.Tensor, seed: int, n_drawn: int) -> None:
        self.augmentation = Augmentation(seed)
        self.generator = self.augmentation.generator
        side = images.shape[-1]
        self.real = (images, lungs)
        self.phantoms = _phantoms(n_drawn // 4, side, seed)
        self.others = draw_others(n_drawn, side, seed)
        self.laterals = draw_lateral_chests(n_drawn // 2, side, seed + 1)

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return thumbnails `(B, 1, SIDE, SIDE)`, kinds `(B,)` and lungs `(B, 1, 16, 16)`."""
        frontal, left, half, right, mirrored, inverted, parts, lateral, others = _SHARES
        change = self.augmentation
        need = sum(_SHARES) - others // 2
        images, lungs = change.posed(*self._pick(need))
        split = torch.split(
            images, [frontal, left, half, right, mirrored, inverted, parts, lateral, need - sum(_SHARES[:8])]
        )
        rest = split[8]
        tilt = {"turn": (0, 18), "zoom": (0.9, 1.1), "shift": 0.05}
        n_superposed = lateral // 2
        made = [
            split[0],
            change.warp(split[1].rot90(1, (-2, -1)), **tilt),
            change.warp(split[2].rot90(2, (-2, -1)), **tilt),
            change.warp(split[3].rot90(3, (-2, -1)), **tilt),
            change.warp(split[4].flip(-2), **tilt),
            1 - split[5],
            change.parts(split[6]),
            torch.cat(
                [
                    change.superposed(split[7][:n_superposed]),
                    change.warp(self._any(self.laterals, lateral - n_superposed), (0, 12), (0.8, 1.3), 0.08, bend=0.03),
                ]
            ),
            torch.cat([change.without_lungs(rest, lungs[-len(rest) :]), self._any(self.others, others - len(rest))]),
        ]
        kinds = torch.repeat_interleave(torch.arange(len(KINDS)), torch.tensor([len(part) for part in made]))
        target = torch.zeros(len(kinds), 1, 16, 16)
        target[:frontal] = antialiased_resize(lungs[:frontal], (16, 16))
        return antialiased_resize(change.film(torch.cat(made)), (SIDE, SIDE)), kinds, target

    def _pick(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        n_real = round(0.65 * count)
        picked = [
            self._rows(len(pool[0]), number) for pool, number in ((self.real, n_real), (self.phantoms, count - n_real))
        ]
        order = torch.randperm(count, generator=self.generator)
        images, lungs = (torch.cat([self.real[i][picked[0]], self.phantoms[i][picked[1]]])[order] for i in range(2))
        return images, lungs

    def _any(self, pool: torch.Tensor, count: int) -> torch.Tensor:
        return pool[self._rows(len(pool), count)]

    def _rows(self, available: int, count: int) -> torch.Tensor:
        return torch.randint(available, (count,), generator=self.generator)


def _phantoms(count: int, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    drawn = [draw_phantom(rng, side, _FINDINGS[index % len(_FINDINGS)]) for index in range(count)]
    images = torch.from_numpy(np.stack([phantom.image for phantom in drawn]))[:, None]
    return images, torch.from_numpy(np.stack([phantom.lungs for phantom in drawn]))[:, None].float()


def fit(batches: Batches, steps: int, seed: int) -> FrontalNetwork:
    """Train the network; return the moving average of its weights."""
    torch.manual_seed(seed)
    network = FrontalNetwork()
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps + 1)
    for step in track(range(steps), "Training"):
        thumbnails, kinds, lungs = batches()
        logits, found = network(thumbnails)
        loss = functional.cross_entropy(logits, kinds, label_smoothing=0.02)
        loss = loss + functional.binary_cross_entropy_with_logits(found, lungs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        keep = min(0.995, step / (step + 10))
        with torch.no_grad():
            for mine, theirs in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                if mine.is_floating_point():
                    mine.mul_(keep).add_(theirs, alpha=1 - keep)
    return average


def read_montgomery(root: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield Montgomery's X-rays and lung masks, `(1, DRAWN_SIDE, DRAWN_SIDE)` each."""
    samples = make_samples(root)
    size = (DRAWN_SIDE, DRAWN_SIDE)
    for _, row in samples[samples.source == "montgomery"].sort_values("image_path").iterrows():
        files = [Path(file) for file in row.roi_mask_paths]
        image, mask = read_radiograph(Path(row.image_path)), read_mask(*files)[None].float()
        yield (functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0],
               functional.interpolate(mask[None], size, mode="area")[0])  # fmt: skip


def run(root: Path, output: Path, steps: int = 1750, n_drawn: int = 1600, seed: int = 0) -> None:
    """Train, and write the weights.

    Args:
        root: Folder with Montgomery's X-rays and lung masks; others in it are not read.
        output: Folder of the weights.
        steps: Number of batches.
        n_drawn: Number of drawings.
        seed: Seed of weights, drawings and augmentation.
    """
    torch.set_num_threads(1)  # sums of several threads differ in their last digits
    images, lungs = (torch.stack(part) for part in zip(*read_montgomery(root), strict=True))
    content = pack(fit(Batches(images, lungs, seed, n_drawn), steps, seed))
    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(output / "frontal.safetensors") as unfinished:
        unfinished.write_bytes(content)
    write_record({**code_record(), "steps": steps, "n_drawn": n_drawn, "seed": seed}, output / "frontal.json")
    print(hashlib.sha256(content).hexdigest())  # noqa: T201


if __name__ == "__main__":
    auto_cli(run, as_positional=True)
