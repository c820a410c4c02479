"""Folders of benchmarks that were never run, with scores that are known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score

VERSIONS = {"anomalib_cxr": "0.1.0", "python": "3.11.7", "anomalib": "2.7.0", "torch": "2.15.0"}
HOSPITALS = {"montgomery": (16, 12), "shenzhen": (40, 44)}


class BenchmarkFolder:
    """Writes a benchmark's folder as `anomalib-cxr benchmark` leaves it, run by run."""

    def __init__(self, folder, systems, data=("xrays",), splits=(0,), seeds=(0,), **more):
        self.folder = folder
        reported = systems if isinstance(systems, dict) else dict.fromkeys(systems)
        config = {
            "title": "Known scores",
            "systems": {name: {"reported": value, "note": ""} for name, value in reported.items()},
            "data": data if isinstance(data, dict) else {name: {} for name in data},
            "splits": list(splits),
            "seeds": list(seeds),
            **more,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmark.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def place(self, system, data="xrays", split=0, seed=0):
        return self.folder / "runs" / data / system / f"split{split}-seed{seed}"

    def fail(self, system, reason, **place):
        self._record(self.place(system, **place), {"status": "failed", "reason": reason})

    def done(self, system, scores, epochs=None, sheet=False, record=None, exposure=None, **place):
        run = self.place(system, **place)
        facts = {
            "status": "done", "train_seconds": 90.0, "seconds_per_image": 0.004, "parameters": 1_234_567,
            "peak_memory_bytes": 512 * 2**20, "device": "cpu", "n_train": 240, "last_epoch": 2,
        }  # fmt: skip
        if epochs is None:
            epochs = pd.DataFrame({"epoch": [0, 1, 2], "val_auroc": [0.5, 0.7, 0.6], "l_gen": [3.0, 2.0, 1.5]})
        if "val_auroc" in epochs:
            facts["best_epoch"] = int(epochs.epoch[epochs.val_auroc.idxmax()])
        self._record(run, {**facts, **(record or {})})
        scores.to_csv(run / "scores.csv", index=False)
        epochs.to_csv(run / "epochs.csv", index=False)
        if exposure is not None:
            exposure.to_csv(run / "exposure.csv", index=False)
        if sheet:
            Image.new("RGB", (64, 48), "gray").save(run / "residuals.png")

    def _record(self, run, facts):
        run.mkdir(parents=True)
        git = {"revision": "0123456789abcdef", "dirty": False}
        record = {"date": "2026-11-25T02:00:00+00:00", "versions": VERSIONS, "git": git, "config": {}, **facts}
        (run / "run.json").write_text(json.dumps(record))


def score_rows(labels, scores, sources="clinic", subset="test", weights="best", shift=""):
    """Tabulate scores of images that are named by their place."""
    return pd.DataFrame(
        {
            "image": [f"{subset}/{place}.png" for place in range(len(labels))],
            "source": sources,
            "label": labels,
            "subset": subset,
            "weights": weights,
            "shift": shift,
            "score": scores,
        }
    )


def drawn_scores(rng, sickness, hospitals=HOSPITALS, confounding=0.0, shifts=("",), images=None):
    """Draw scores of validation and test: normal ones around 0, sick ones around `sickness`, by hospital.

    `images` draws what the images have in common between systems; each system adds its own noise.
    """
    tables = []
    for subset, count in (("val", 35), ("test", None)):
        labels, sources = [], []
        for source, (normal, sick) in hospitals.items():
            counts = (count // len(hospitals),) * 2 if count else (normal, sick)
            labels += ["normal"] * counts[0] + ["sick"] * counts[1]
            sources += [source] * sum(counts)
        common = (images or np.random.default_rng(99)).normal(0, 0.7, len(labels))
        mean = sickness * (np.array(labels) == "sick") + confounding * (np.array(sources) == max(hospitals))
        for weights in ("best", "last"):
            for step, shift in enumerate(shifts if subset == "test" else ("",)):
                scores = mean / (1 + 0.3 * step) + common + rng.normal(0, 0.7, len(labels))
                tables.append(score_rows(labels, scores, sources, subset, weights, shift))
    return pd.concat(tables)


def drawn_exposure(scores):
    """Draw the exposure of each image of a run, which its score may follow a little."""
    images = scores.image.drop_duplicates()
    values = np.random.default_rng(5).normal(size=(len(images), 3))
    return pd.DataFrame(values, columns=["gap", "around", "inside"]).assign(image=list(images))


def drawn_epochs(rng, scores, count=30, terms=("l_gen", "l_dc")):
    """Draw the course of a training, whose best epoch has the AUROC of the given scores on validation."""
    table = scores[(scores.subset == "val") & (scores.weights == "best")]
    best = roc_auc_score(table.label == "sick", table.score)
    epochs = np.arange(count)
    columns = {name: 3 * np.exp(-epochs / 8) + rng.normal(0, 0.05, count) + 0.3 * i for i, name in enumerate(terms)}
    auroc = best - 0.2 * np.exp(-epochs / 6) - np.abs(rng.normal(0, 0.04, count))
    auroc[rng.integers(count // 2, count)] = best
    return pd.DataFrame({"epoch": epochs, "val_auroc": auroc, **columns})
