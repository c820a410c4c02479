"""The published method on the real images, measured both ways.

    python benchmarks/published_method.py PATH --output results/published_method

Trains each system on each seed and scores validation and test images after every epoch. Writes `runs.csv` (one row
per run and choice of epoch), `epochs.csv` (one row per run and epoch) and `run.json` (settings, versions, git
revision). A run that is there already is not repeated, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anomalib.engine import Engine
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader

from anomalib_cxr import MontgomeryShenzhen, RoiSureGanomaly
from anomalib_cxr.data.dataset import RoiDataset
from anomalib_cxr.evaluation.provenance import code_record, write_record

SYSTEMS: dict[str, dict[str, Any]] = {
    "roi_sure": {"reconstruction": "sure", "target": "lungs"},
    "roi_l2": {"reconstruction": "l2", "target": "lungs"},
    "ganomaly": {"reconstruction": "l1", "target": "image"},
}
HOSPITALS = ("pooled", "montgomery", "shenzhen")


@dataclass(frozen=True)
class Size:
    """How large networks and training are.

    Args:
        image_size: Side that the network sees.
        n_features: Channels after the first convolution.
        max_features: Cap on the channels.
        epochs: Epochs of training.
    """

    image_size: int = 64
    n_features: int = 32
    max_features: int | None = 256
    epochs: int = 30


@torch.no_grad()
def score(module: LightningModule, dataset: RoiDataset) -> np.ndarray:
    """Return the raw score of each image, in the order of the dataset."""
    training = module.model.training
    module.model.eval()
    loader = DataLoader(dataset, batch_size=64, collate_fn=dataset.collate_fn)
    scores = [module.model(module.pre_processor(batch.image.to(module.device))).pred_score.cpu() for batch in loader]
    module.model.train(training)
    return torch.cat(scores).numpy()


def aurocs(samples: pd.DataFrame, scores: np.ndarray) -> dict[str, float]:
    """Return AUROC pooled and per hospital."""
    rows = {name: samples.source == name if name != "pooled" else samples.source.notna() for name in HOSPITALS}
    return {name: float(roc_auc_score(samples.label_index[mask], scores[mask])) for name, mask in rows.items()}


def interval(labels: np.ndarray, scores: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of AUROC by a bootstrap that keeps the number of normal and sick images."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    values = []
    for _ in range(draws):
        rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
        values.append(roc_auc_score(labels[rows], scores[rows]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


class EveryEpoch(Callback):
    """Scores validation and test images after each epoch."""

    def __init__(self, datamodule: MontgomeryShenzhen) -> None:
        self.datamodule = datamodule
        self.scores: list[dict[str, np.ndarray]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score both sets with the weights of this epoch."""
        del trainer
        sets = {"val": self.datamodule.val_data, "test": self.datamodule.test_data}
        self.scores.append({name: score(pl_module, dataset) for name, dataset in sets.items()})


def run(system: str, protocol: str, seed: int, root: Path, size: Size, folder: Path) -> None:
    """Train one system and keep its figures."""
    seed_everything(seed, workers=True)
    datamodule = MontgomeryShenzhen(root=root, protocol=protocol, seed=seed)
    model = RoiSureGanomaly(
        image_size=size.image_size,
        n_features=size.n_features,
        max_features=size.max_features,
        visualizer=False,
        **SYSTEMS[system],
    )
    recorder = EveryEpoch(datamodule)
    engine = Engine(
        max_epochs=size.epochs,
        callbacks=[recorder],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,  # the recorder scores; nothing of a run depends on the validation loop
    )
    start = time.perf_counter()
    engine.fit(model, datamodule=datamodule)
    seconds = time.perf_counter() - start
    samples = {"val": datamodule.val_data.samples, "test": datamodule.test_data.samples}
    epochs = pd.DataFrame(
        {
            "epoch": epoch,
            **{
                f"{name}_{hospital}": value
                for name in samples
                for hospital, value in aurocs(samples[name], scores[name]).items()
            },
        }
        for epoch, scores in enumerate(recorder.scores)
    )
    chosen = {
        "last": len(epochs) - 1,
        "best on validation": int(epochs.val_pooled.idxmax()),
        "best on test": int(epochs.test_pooled.idxmax()),
    }
    rows = []
    for choice, epoch in chosen.items():
        low, high = interval(samples["test"].label_index.to_numpy(), recorder.scores[epoch]["test"])
        figures = {f"auroc_{hospital}": epochs[f"test_{hospital}"][epoch] for hospital in HOSPITALS}
        rows.append({"choice": choice, "epoch": epoch, **figures, "low": low, "high": high})
    key = {"system": system, "protocol": protocol, "seed": seed}
    folder.mkdir(parents=True, exist_ok=True)
    epochs.assign(**key).to_csv(folder / "epochs.csv", index=False)
    pd.DataFrame(rows).assign(**key, seconds=round(seconds, 1)).to_csv(folder / "runs.csv", index=False)


def main(
    root: Path,
    output: Path = Path("results/published_method"),
    systems: tuple[str, ...] = tuple(SYSTEMS),
    protocols: tuple[str, ...] = ("holdout", "dissertation"),
    seeds: tuple[int, ...] = (0, 1, 2),
    size: Size = Size(),
) -> None:
    """Measure the published method on the real images.

    Args:
        root: Folder with the Montgomery and Shenzhen images and masks.
        output: Folder for the figures.
        systems: Systems to train.
        protocols: Protocols to draw the images by.
        seeds: Seeds of draw and training.
        size: How large networks and training are.
    """
    folders = []
    for protocol in protocols:
        for seed in seeds:
            for system in systems:
                folder = output / "runs" / f"{protocol}-{system}-{seed}"
                folders.append(folder)
                if not (folder / "runs.csv").exists():
                    run(system, protocol, seed, root, size, folder)
                for name in ("runs", "epochs"):
                    tables = [pd.read_csv(done / f"{name}.csv") for done in folders]
                    pd.concat(tables).to_csv(output / f"{name}.csv", index=False, float_format="%.4f")
    settings = {"systems": SYSTEMS, "seeds": seeds, "protocols": protocols, "size": vars(size)}
    write_record({**code_record(), "settings": settings}, output / "run.json")


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
