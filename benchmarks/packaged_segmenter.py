"""Train the lung segmenter that comes with the package, and measure it.

    python benchmarks/packaged_segmenter.py validate --montgomery MONTGOMERY --output results/packaged
    python benchmarks/packaged_segmenter.py train --montgomery MONTGOMERY --output results/packaged
    python benchmarks/packaged_segmenter.py measure --root datasets/montgomery_shenzhen --output results/packaged

MONTGOMERY is a folder with Montgomery's X-rays and lung masks, in any layout of the package; X-rays of other hospitals
in it are left out. These and phantoms are all that a segmenter learns from, and all that a setting is chosen by.

- `validate` cross-validates on Montgomery and on phantoms drawn for it, and writes `validation.csv`: Dice and area of
  each held-out X-ray as it is, and as other machines would have it.
- `train` trains on all of Montgomery, and writes `lungs.safetensors`, to be put into `src/anomalib_cxr/segmentation/`
  with its SHA-256, which is printed, in `packaged.py` there.
- `measure` measures the packaged segmenter on X-rays with masks that it was not trained on, and writes `dice.csv` and
  `summary.csv`.

Both print whether disease shrinks the lungs: the ratio of predicted to true area of sick and of healthy X-rays.

The same seed gives the same weights on the same machine with the same number of threads.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jsonargparse import auto_cli
from machines import augment_for_machines
from scipy.stats import bootstrap

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.data.phantom.findings import FINDINGS
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.evaluation.scores import NORMAL, SICK
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.segmentation.experiment import dice, measure_dice, summarize_dice
from anomalib_cxr.segmentation.network import LungSegmenter
from anomalib_cxr.segmentation.packaged import load_packaged_segmenter, save_weights
from anomalib_cxr.segmentation.postprocessing import clean_mask
from anomalib_cxr.segmentation.training import fit_segmenter
from anomalib_cxr.utils.provenance import code_record

logger = logging.getLogger(__name__)

STAGES = ((64, 900), (128, 500))
"""Side in pixels and number of batches of each stage of the training: coarse first, which is four times as fast."""
SIDE = 256
"""Side of the images that are kept, in pixels."""
N_PHANTOMS = 24
N_FOLDS = 4
Pairs = tuple[torch.Tensor, torch.Tensor]


def train(montgomery: Path, output: Path, seed: int = 0) -> None:
    """Train on all of Montgomery and on phantoms.

    Args:
        montgomery: Folder with Montgomery's X-rays and masks.
        output: Folder to write.
        seed: Seed of the initial weights, the phantoms, the order and the augmentation.
    """
    images, masks, _ = read_montgomery(montgomery)
    digest = hashlib.sha256(images.numpy().tobytes() + masks.numpy().tobytes()).hexdigest()
    segmenter = fit((images, masks), seed)
    record = {
        "versions": code_record()["versions"],  # no date: the same training writes the same bytes
        "seed": seed,
        "stages": STAGES,
        "images": {"montgomery": len(images), "phantom": N_PHANTOMS},
        "montgomery_sha256": digest,  # of images and masks as they were learned
    }
    output.mkdir(parents=True, exist_ok=True)
    logger.info(
        "SHA-256 of %s: %s", output / "lungs.safetensors", save_weights(segmenter, output / "lungs.safetensors", record)
    )


def validate(montgomery: Path, output: Path, seed: int = 0) -> None:
    """Cross-validate on Montgomery, and on phantoms that were not trained on.

    Args:
        montgomery: Folder with Montgomery's X-rays and masks.
        output: Folder to write.
        seed: Seed of the training, and of what other machines do to the held-out X-rays.
    """
    images, masks, labels = read_montgomery(montgomery)
    folds = torch.arange(len(images)) % N_FOLDS  # names alternate neither in label nor in sex
    rows = []
    for fold in range(N_FOLDS):
        segmenter = fit((images[folds != fold], masks[folds != fold]), seed)
        held_out = {
            "montgomery": ((images[folds == fold], masks[folds == fold]), labels[folds.numpy() == fold]),
            "phantom": (draw_phantoms(seed + 1), phantom_labels()),
        }
        for name, (pairs, label) in held_out.items():
            for looks, seen in {"": pairs, ", other machines": as_of_other_machines(pairs, seed)}.items():
                rows.append(agreement(segmenter, seen).assign(fold=fold, images=name + looks, label=label))
        output.mkdir(parents=True, exist_ok=True)
        pd.concat(rows).to_csv(output / "validation.csv", index=False, float_format="%.4f")  # so far
    table = pd.concat(rows)
    logger.info("\n%s", table.groupby("images").dice.agg(["size", "mean", "min"]).round(4))
    for name, part in table.groupby("images"):
        log_areas(part, str(name))


def measure(root: Path, output: Path) -> None:
    """Measure the packaged segmenter on all X-rays with masks that are not Montgomery's.

    Args:
        root: Folder of the data set.
        output: Folder to write.
    """
    samples = make_samples(root)
    samples = samples[(samples.source != "montgomery") & (samples.roi_mask_paths.map(len) > 0)]
    table = measure_dice(load_packaged_segmenter(), samples)
    output.mkdir(parents=True, exist_ok=True)
    table.assign(image=table.image.map(lambda path: Path(path).name)).to_csv(
        output / "dice.csv", index=False, float_format="%.4f"
    )
    summarize_dice(table).to_csv(output / "summary.csv", index=False, float_format="%.4f")
    logger.info("\n%s", summarize_dice(table).round(4).to_string(index=False))
    logger.info("under 0.85: %d of %d", (table.dice < 0.85).sum(), len(table))  # noqa: PLR2004
    for source, part in table.groupby("source"):
        log_areas(part, str(source))


def log_areas(table: pd.DataFrame, name: str) -> None:
    """Print the ratio of predicted to true area by label, and the difference of the means with its interval.

    Args:
        table: With the columns `label` and `area_ratio`.
        name: Name of the images.
    """
    healthy, sick = (table.area_ratio[table.label == label].to_numpy() for label in (NORMAL, SICK))
    difference = bootstrap(
        (sick, healthy), lambda a, b, axis: a.mean(axis) - b.mean(axis), rng=np.random.default_rng(0)
    )
    low, high = difference.confidence_interval
    logger.info(
        "%s: area over true area: %d healthy %.3f, %d sick %.3f; difference %.3f (%.3f to %.3f); sick under 0.8: %d",
        name, len(healthy), healthy.mean(), len(sick), sick.mean(), sick.mean() - healthy.mean(), low, high,
        (sick < 0.8).sum(),  # noqa: PLR2004
    )  # fmt: skip


class Montgomery(NamedTuple):
    """X-rays in [-1, 1] and masks, 0 to 1, `(N, 1, S, S)` each, and labels, in the order of the names."""

    images: torch.Tensor
    masks: torch.Tensor
    labels: npt.NDArray[np.str_]


def read_montgomery(folder: Path) -> Montgomery:
    """Read Montgomery's X-rays with masks from a folder."""
    samples = make_samples(folder)
    samples = samples[samples.source == "montgomery"].sort_values("image_path")
    files = list(zip(samples.image_path, samples.roi_mask_paths, strict=True))
    images = [antialiased_resize(2 * read_radiograph(image)[None] - 1, (SIDE, SIDE)) for image, _ in files]
    masks = [antialiased_resize(read_mask(*paths)[None, None].float(), (SIDE, SIDE)) for _, paths in files]
    labels = np.where(samples.label_index == 1, SICK, NORMAL)
    return Montgomery(torch.cat(images), torch.cat(masks), labels)


def phantom_labels() -> npt.NDArray[np.str_]:
    """Return the labels of :func:`draw_phantoms`."""
    return np.where(np.arange(N_PHANTOMS) % (1 + len(FINDINGS)) > 0, SICK, NORMAL)


def draw_phantoms(seed: int) -> Pairs:
    """Draw phantoms, healthy ones and each finding in turn, as :func:`read_montgomery` returns X-rays."""
    findings = [None, *FINDINGS]
    drawn = [
        draw_phantom(np.random.default_rng((seed, number)), SIDE, findings[number % len(findings)])
        for number in range(N_PHANTOMS)
    ]
    images = torch.from_numpy(np.stack([phantom.image for phantom in drawn]))
    masks = torch.from_numpy(np.stack([phantom.lungs for phantom in drawn]))
    return 2 * images[:, None] - 1, masks[:, None].float()


def fit(montgomery: Pairs, seed: int) -> LungSegmenter:
    """Train on X-rays of Montgomery and on phantoms, in stages of growing size."""
    images, masks = (torch.cat(pair) for pair in zip(montgomery, draw_phantoms(seed), strict=True))
    torch.manual_seed(seed)
    segmenter = LungSegmenter()
    for side, steps in STAGES:
        segmenter.image_size = side  # a network of convolutions alone, for any size
        small = segmenter.to_own_size(images), segmenter.to_own_size(masks)
        fit_segmenter(segmenter, *small, steps=steps, seed=seed, augmentation=augment_for_machines)
    return segmenter


def as_of_other_machines(pairs: Pairs, seed: int) -> Pairs:
    """Augment images as in the training, but none of them to something else than a chest."""
    return augment_for_machines(*pairs, torch.Generator().manual_seed(seed), no_chest=0)


def agreement(segmenter: LungSegmenter, pairs: Pairs) -> pd.DataFrame:
    """Compare found lungs, cleaned as in use, with the true ones: columns `dice` and `area_ratio`."""
    rows = []
    for image, mask in zip(*pairs, strict=True):
        with torch.inference_mode():
            found = clean_mask((segmenter(image[None])[0, 0] > 0.5).numpy())  # noqa: PLR2004
        true = mask[0].numpy() > 0.5  # noqa: PLR2004
        rows.append({"dice": dice(found, true), "area_ratio": found.sum() / true.sum()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    auto_cli([train, validate, measure], as_positional=False)
