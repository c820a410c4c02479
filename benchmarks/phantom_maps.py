"""Measure the anomaly maps of LungAtlas on phantoms by anomalib's metrics: pixel AUROC and AUPRO.

    python benchmarks/phantom_maps.py --root datasets/chest_phantom --output docs/benchmarks/phantom_maps.csv

Phantoms are drawn where they are missing. Minutes a seed on one core.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC, Evaluator
from jsonargparse import auto_cli

from anomalib_cxr import ChestPhantom, LungAtlas

logger = logging.getLogger(__name__)


def measure(root: Path, seed: int) -> dict[str, float]:
    """Train on healthy phantoms, and measure scores and maps of the test phantoms.

    Args:
        root: Folder of the phantoms.
        seed: Seed of phantoms and splits.

    Returns:
        Figures by name.
    """
    pixels = ["anomaly_map", "gt_mask"]
    metrics = [AUROC(fields=["pred_score", "gt_label"], prefix="image_"), AUROC(fields=pixels, prefix="pixel_")]
    evaluator = Evaluator(test_metrics=[*metrics, AUPRO(fields=pixels, prefix="pixel_")])
    model = LungAtlas(evaluator=evaluator, visualizer=False)
    data = ChestPhantom(root=root / str(seed), phantom_seed=seed, seed=seed)
    engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=root / "results")
    engine.fit(model, datamodule=data)
    (figures,) = engine.test(model, datamodule=data, verbose=False)
    return {"seed": seed, **figures}


def main(root: Path, output: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Measure several seeds, and write a row for each.

    Args:
        root: Folder for the phantoms.
        output: CSV file to write.
        seeds: Seeds of phantoms and splits.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    table = pd.DataFrame([measure(root, seed) for seed in seeds])
    table.to_csv(output, index=False, float_format="%.4f")
    logger.info("\n%s", table.round(3))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
