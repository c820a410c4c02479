"""Look for the strength of noise at which SURE helps: errors against the clean lungs, and detection, on phantoms.

    python benchmarks/noise_regime.py --root datasets/noise_regime --output results/noise_regime/noise_regime.csv

Trains systems of `configs/benchmark/noise_phantoms.yaml` under Gaussian noise of several strengths, and measures the
weights of the last epoch on phantoms of a draw of their own, whose lungs are known without noise. A row per training;
those in the output already are not repeated. Half a minute a training on one core. Writes `run.json` beside it.
"""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml
from anomalib.callbacks.checkpoint import ModelCheckpoint
from anomalib.engine import Engine
from jsonargparse import auto_cli
from lightning.pytorch import seed_everything
from sklearn.metrics import roc_auc_score

from anomalib_cxr import ChestPhantom, DetectorNoise, RoiSureGanomaly
from anomalib_cxr.benchmark.plan.resolve import merge_settings
from anomalib_cxr.data.phantom.drawing import NoiseModel, draw_phantom
from anomalib_cxr.data.phantom.findings import FINDINGS
from anomalib_cxr.functional import probe_divergence
from anomalib_cxr.utils.provenance import code_record, write_record

logger = logging.getLogger(__name__)

MEAN = "mean_image"
"""In place of a system: no network."""
SYSTEMS = ("roi_l2_mean_squared", "roi_sure_mean_squared", "unet_l2", "unet_sure", MEAN)
SIZE = 32
"""Side in pixels, that of the systems."""
KEYS = ["system", "sigma", "seed", "n_train", "epochs"]


class Phantoms(NamedTuple):
    """Phantoms to measure on, half of them with a finding; gray values in [0, 1]."""

    clean: torch.Tensor
    """Without noise, `(B, 1, H, W)`."""
    lungs: torch.Tensor
    """`(B, 1, H, W)`, 0 or 1."""
    lesion: torch.Tensor
    """`(B, 1, H, W)`, bool: what a finding changes visibly, in the lungs."""
    sick: torch.Tensor
    """`(B,)`, bool."""


def draw(count: int, size: int) -> Phantoms:
    """Draw phantoms that no training sees.

    Args:
        count: Number of healthy ones, and of those with a finding, the five kinds in turn.
        size: Side in pixels.
    """
    findings = [None] * count + [list(FINDINGS)[number % len(FINDINGS)] for number in range(count)]
    noiseless = NoiseModel(gain=0.0, sigma=0.0)
    drawn = [
        draw_phantom(np.random.default_rng((1, number)), size, finding, noiseless)
        for number, finding in enumerate(findings)
    ]
    clean, lungs, lesion = (
        torch.from_numpy(np.stack([np.asarray(getattr(each, name), np.float32) for each in drawn])).unsqueeze(1)
        for name in ("clean", "lungs", "lesion")
    )
    return Phantoms(clean, lungs, lesion * lungs > 0, torch.tensor([finding is not None for finding in findings]))


def train(settings: dict[str, Any], data: ChestPhantom, seed: int, epochs: int) -> RoiSureGanomaly:
    """Train a system, without validation but after the last epoch.

    Args:
        settings: Arguments of the model.
        data: Phantoms.
        seed: Of the training.
        epochs: Passes over the healthy training phantoms.
    """
    seed_everything(seed, workers=True)
    model = RoiSureGanomaly(**{**settings, "seed": seed, "visualizer": False, "evaluator": False})
    with TemporaryDirectory() as scratch:
        engine = Engine(
            accelerator="cpu", devices=1, max_epochs=epochs, check_val_every_n_epoch=epochs, default_root_dir=scratch,
            logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[ModelCheckpoint(save_top_k=0)],
        )  # fmt: skip
        engine.fit(model, datamodule=data)
    return model.eval()


def noisy_images(phantoms: Phantoms, sigma: float) -> torch.Tensor:
    """Return phantoms with noise in [-1, 1], `(B, 1, H, W)`.

    Args:
        phantoms: The phantoms.
        sigma: Standard deviation of the noise on the scale of [0, 1].
    """
    noise = DetectorNoise(gain=0.0, sigma=sigma, seed=1)
    return 2 * torch.stack([noise(image) for image in phantoms.clean]) - 1


def measure_reconstruction(reconstructed: torch.Tensor, noisy: torch.Tensor, phantoms: Phantoms) -> dict[str, float]:
    """Measure a reconstruction of the lungs.

    Args:
        reconstructed: In [-1, 1], `(B, 1, H, W)`.
        noisy: What was reconstructed, in [-1, 1], `(B, 1, H, W)`.
        phantoms: The same without noise.

    Returns:
        `error`: root mean squared error against the clean lungs of healthy phantoms, gray values in [0, 1];
        `error_observed`: the same against the noisy lungs; AUROC of the mean squared `residual` in the true lungs, and
        of the `pixels`' squared residual in those of phantoms with a finding.
    """
    inside, healthy = phantoms.lungs, ~phantoms.sick
    in_lungs = inside.flatten(1).sum(1)
    to_clean = (reconstructed / 2 - phantoms.clean + 0.5).square() * inside
    residual = ((reconstructed - noisy) / 2).square() * inside
    sick_lungs = (inside > 0) & phantoms.sick.reshape(-1, 1, 1, 1)
    return {
        "error": float((to_clean[healthy].sum() / in_lungs[healthy].sum()).sqrt()),
        "error_observed": float((residual[healthy].sum() / in_lungs[healthy].sum()).sqrt()),
        "residual": float(roc_auc_score(phantoms.sick, residual.flatten(1).sum(1) / in_lungs)),
        "pixels": float(roc_auc_score(phantoms.lesion[sick_lungs], residual[sick_lungs])),
    }


@torch.no_grad()
def measure(model: RoiSureGanomaly, phantoms: Phantoms, sigma: float) -> dict[str, float]:
    """Measure a trained system on phantoms with noise.

    Args:
        model: The system.
        phantoms: The phantoms.
        sigma: Standard deviation of the noise on the scale of [0, 1].

    Returns:
        Figures of the reconstruction; `copied`: divergence of the generator for each pixel of the lungs, 1 for a copy
        of the input and 0 for a constant; AUROC of the `codes`' distance.
    """
    noisy = noisy_images(phantoms, sigma)
    network = model.model.networks[0]
    reconstructed = network(noisy).image
    in_lungs = phantoms.lungs.flatten(1).sum(1)
    copied = probe_divergence(noisy, reconstructed, network.generator, phantoms.lungs) / in_lungs
    return {
        **measure_reconstruction(reconstructed, noisy, phantoms),
        "copied": float(copied[~phantoms.sick].mean()),
        "codes": float(roc_auc_score(phantoms.sick, model.model(noisy).pred_score)),
    }


def measure_mean(data: ChestPhantom, phantoms: Phantoms, sigma: float) -> dict[str, float]:
    """Measure the mean of the training images as the reconstruction of every image: what needs no network.

    Args:
        data: Phantoms with noise to train on.
        phantoms: The phantoms.
        sigma: Standard deviation of the noise on the scale of [0, 1].

    Returns:
        Figures of the reconstruction.
    """
    mean = torch.stack([item.image[:1] for item in data.train_data]).mean(dim=0)
    noisy = noisy_images(phantoms, sigma)
    return measure_reconstruction((2 * mean - 1).expand_as(noisy), noisy, phantoms)


def main(
    root: Path,
    output: Path,
    benchmark: Path = Path("configs/benchmark/noise_phantoms.yaml"),
    systems: tuple[str, ...] = SYSTEMS,
    sigmas: tuple[float, ...] = (0.1, 0.2, 0.4),
    seeds: tuple[int, ...] = (0, 1, 2),
    n_normal: int = 120,
    epochs: int = 20,
    n_test: int = 200,
) -> None:
    """Train and measure each system at each strength with each seed.

    Args:
        root: Folder for the training phantoms.
        output: CSV file to write, or to complete.
        benchmark: Configuration of a benchmark with the systems.
        systems: Names of systems in it, and `mean_image`, which has the same figures with every seed.
        sigmas: Standard deviations of the noise on the scale of [0, 1].
        seeds: Seeds of the trainings.
        n_normal: Healthy phantoms, 70 % of which train.
        epochs: Passes over them.
        n_test: Healthy phantoms to measure on, and as many with a finding.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    known = yaml.safe_load(benchmark.read_text(encoding="utf-8"))["systems"]
    table = pd.read_csv(output) if output.exists() else pd.DataFrame(columns=KEYS)
    phantoms = None
    for seed, sigma, system in product(seeds, sigmas, systems):
        data = ChestPhantom(
            root=root, n_normal=n_normal, n_sick=60, size=SIZE, train_batch_size=8, num_workers=0,
            augmentations=DetectorNoise(gain=0.0, sigma=sigma),
        )  # fmt: skip
        data.prepare_data()
        data.setup()
        keys = dict(zip(KEYS, (system, sigma, seed, len(data.train_data), epochs), strict=True))
        if (table[KEYS] == list(keys.values())).all(axis=1).any():
            continue
        phantoms = phantoms or draw(n_test, SIZE)
        if system == MEAN:
            figures = measure_mean(data, phantoms, sigma)
        else:
            file = yaml.safe_load((benchmark.parent / known[system]["config"]).read_text(encoding="utf-8"))
            settings = merge_settings(file["model"]["init_args"], known[system]["model"]["init_args"])
            settings["sure"] = {**settings.get("sure", {}), "gain": 0.0, "sigma": 2 * sigma}
            figures = measure(train(settings, data, seed, epochs), phantoms, sigma)
        table = pd.concat([table, pd.DataFrame([keys | figures])], ignore_index=True)
        table.to_csv(output, index=False, float_format="%.5g")
        logger.info("%s", keys | figures)
    settings = {"systems": systems, "sigmas": sigmas, "seeds": seeds, "n_normal": n_normal, "epochs": epochs}
    write_record({**code_record(), "settings": {**settings, "n_test": n_test}}, output.with_name("run.json"))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
