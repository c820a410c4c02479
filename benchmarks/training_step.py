"""How long a training step takes, and in how much memory: RoiSureGanomaly's, and that of anomalib's own Ganomaly.

    python benchmarks/training_step.py --output results/training_step

All systems take turns in one run, at the same size, batch and features, in Lightning's own loop; what is timed is from
the start of a batch to its end, on one batch of noise. Writes `training_step.csv` and `run.json`. On two cores it takes
some 40 minutes with 256 pixels, which `--sizes [64,128]` leaves out. With `--ideas true`, instead, what was done for
speed is taken away one at a time, and what was not done is added one at a time.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from anomalib.models import Ganomaly
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer
from measuring import DEVICE, copy_rate, device_name, forget_greatest, matrix_rate, ratio, resident, wait
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import flop_registry

from anomalib_cxr import RoiImageBatch, RoiImageItem, RoiSureGanomaly
from anomalib_cxr.utils.provenance import code_record, write_record

BASELINE = "Ganomaly (anomalib)"
EPOCHS, N_TRAIN = 70, 311
"""Of the dissertation's training."""


class UnfusedAdam(RoiSureGanomaly):
    """The step of which the fused Adam is taken away."""

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam by a loop over the weights."""
        fused = super().configure_optimizers()
        return [torch.optim.Adam(each.param_groups[0]["params"], **{**each.defaults, "fused": False}) for each in fused]


def channels_last(model: RoiSureGanomaly) -> None:
    """Keep the channels of a pixel side by side."""
    model.to(memory_format=torch.channels_last)
    model.model.ensemble[0].generator.encoder.register_forward_pre_hook(
        lambda _, given: given[0].to(memory_format=torch.channels_last)
    )


def compiled(model: RoiSureGanomaly) -> None:
    """Compile the networks."""
    reconstructor = model.model.ensemble[0]
    for network in (reconstructor.generator.encoder, reconstructor.generator.decoder, reconstructor.encoder):
        network.compile()


class Stopwatch(Callback):
    """Times each training batch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        """Start, when all before is done."""
        wait()
        self._began = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        """Stop."""
        wait()
        self.seconds.append(time.perf_counter() - self._began)


class System(NamedTuple):
    """A system that takes its turn."""

    settings: Mapping[str, Any]
    kind: type[RoiSureGanomaly] = RoiSureGanomaly
    prepare: Callable[[RoiSureGanomaly], object] = lambda _: None
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    @property
    def parts(self) -> int:
        """Batches that make a step."""
        return int(self.settings.get("optimizer", {}).get("accumulate_grad_batches", 1))


SYSTEMS = {
    "l2": System({"reconstruction": "l2"}),
    "sure": System({"reconstruction": "sure"}),
    "l2, max_features 512": System({"reconstruction": "l2", "network": {"max_features": 512}}),
    "sure, max_features 512": System({"reconstruction": "sure", "network": {"max_features": 512}}),
    "sure, by quarters": System({"reconstruction": "sure", "optimizer": {"accumulate_grad_batches": 4}}),
}
SURE, COMPILED = SYSTEMS["sure"], "with torch.compile"
IDEAS = {
    "sure": SURE,
    "without fused Adam": SURE._replace(kind=UnfusedAdam),
    "with channels-last": SURE._replace(prepare=channels_last),
    COMPILED: SURE._replace(prepare=compiled),
    "with bf16-mixed": SURE._replace(precision="bf16-mixed"),
}
"""What the step of `sure` is without each thing that was done for speed, and with each that was not."""
BASELINES = {BASELINE: System({})}


def make(name: str, size: int, batch: int, features: int) -> LightningModule:
    """Return a system by its name in the tables."""
    if name == BASELINE:
        pre_processor = Ganomaly.configure_pre_processor((size, size))
        return Ganomaly(batch, features, pre_processor=pre_processor, visualizer=False)
    settings, kind, prepare, _ = (SYSTEMS | IDEAS)[name]
    network = {"n_features": features, **settings.get("network", {})}
    model = kind(image_size=size, seed=0, visualizer=False, **{**settings, "network": network})
    prepare(model)
    return model


def one_batch(size: int, batch: int, parts: int) -> DataLoader:
    """Return a loader of one batch of noise, in parts; lungs are a square."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = True
    drawn = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
    items = [RoiImageItem(image=each.expand(3, -1, -1), roi_mask=mask, gt_label=torch.tensor(0)) for each in drawn]
    return DataLoader(items, batch_size=batch // parts, collate_fn=RoiImageBatch.collate)


class Operations(TorchDispatchMode):
    """Counts floating-point operations by torch's own formulas; its own counter does not know a pass within a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation."""
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


class Steps:
    """Trains a system, a few steps at a time."""

    def __init__(self, name: str, size: int, batch: int, features: int) -> None:
        system = (BASELINES | SYSTEMS | IDEAS)[name]
        self.model = make(name, size, batch, features)
        self.loader = one_batch(size, batch, system.parts)
        self.precision = system.precision

    def take(self, steps: int = 1) -> float:
        """Take steps; return the seconds of all."""
        watch = Stopwatch()
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            max_epochs=steps,
            precision=self.precision,
            callbacks=[watch],
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            **quiet,
        )
        trainer.fit(self.model, self.loader)
        trainer.optimizers = []  # trainers are long in dying, and their optimizers as large as two models
        return sum(watch.seconds)

    def operations(self) -> int:
        """Return the floating-point operations of a step."""
        with Operations() as counted:
            self.take()
        return counted.total

    def bytes_of_weights(self) -> int:
        """Return the bytes of what is trained."""
        return sum(4 * weights.numel() for weights in self.model.parameters() if weights.requires_grad)


def peak_memory(name: str, size: int, batch: int, features: int) -> float:
    """Return the resident MiB that a step takes beside what a process has that has only made the batch."""
    words = [sys.executable, __file__, "--alone", name, "--sizes", f"[{size}]", "--batch", str(batch),
             "--features", str(features)]  # fmt: skip
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: S603  # this script
    return float(said.split()[-1])


def measure(names: Sequence[str], size: int, batch: int, features: int, repetitions: int) -> list[dict[str, Any]]:
    """Time systems in turns; the first of them is what the others are compared with."""
    jobs = {name: Steps(name, size, batch, features) for name in names}
    operations = {name: job.operations() for name, job in jobs.items()}
    taken: dict[str, list[float]] = {name: [] for name in names}
    if COMPILED in jobs:  # it compiles at its first step; the others have taken one to be counted
        jobs[COMPILED].take()
    for _ in range(repetitions):
        for name, job in jobs.items():
            taken[name].append(job.take())
    rows = []
    for name, each in taken.items():
        seconds = float(np.median(each))
        row = {"system": name, "size": size, "batch": batch, "seconds": seconds}
        row |= ratio(np.array(each), np.array(taken[names[0]]))
        row |= {"gflop": operations[name] / 1e9, "gflop_a_second": operations[name] / 1e9 / seconds}
        row |= {"images_a_second": batch / seconds, "hours_of_70_epochs": EPOCHS * N_TRAIN * seconds / batch / 3600}
        rows.append(row | {"million_weights": jobs[name].bytes_of_weights() / 4e6})
    return rows


def main(
    output: Path = Path("results/training_step"),
    sizes: tuple[int, ...] = (64, 128, 256),
    batch: int = 32,
    features: int = 64,
    repetitions: int = 7,
    ideas: bool = False,
    memory: bool = True,
    alone: str | None = None,
) -> None:
    """Measure, print and write.

    Args:
        output: Folder of the results.
        sizes: Sides of the images in pixels.
        batch: Images in a batch.
        features: Channels after the first convolution.
        repetitions: Steps that are timed of each system.
        ideas: Whether to weigh what makes the step fast, instead of comparing it with the rival's.
        memory: Whether to look at the peak memory of a step, too.
        alone: Only take a step of this system, and print what memory that took.
    """
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if alone is not None:
        job = Steps(alone, sizes[0], batch, features)
        forget_greatest()
        before = resident("VmRSS")
        job.take()
        grown = resident("VmHWM") - before
        print(torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else grown)  # noqa: T201
        return
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows += measure(tuple(IDEAS) if ideas else (BASELINE, *SYSTEMS), size, batch, features, repetitions)
    for row in rows if memory else ():
        row["peak_mib"] = peak_memory(row["system"], row["size"], batch, features)
    table = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "training_step.csv", index=False, float_format="%.4g")
    rates = {"matrix_gflop_a_second": matrix_rate() / 1e9, "copy_gb_a_second": copy_rate() / 1e9}
    write_record(
        {**code_record(), "device": device_name(), "cores": os.cpu_count(), **rates, "rows": rows}, output / "run.json"
    )
    print(table.to_string(index=False, float_format="%.3f"), rates, sep="\n")  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
