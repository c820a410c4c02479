"""Whether two processes under DDP train as one process with the double batch does, and how fast.

    OMP_NUM_THREADS=1 python benchmarks/ddp.py --output results/ddp

Trains RoiSureGanomaly on phantoms, the same images in the same order, on the CPU: in one process, and in two with half
of each batch, with batch normalization synchronized and without. The random signs of SURE's probe are replaced by fixed
ones, since two processes cannot draw what one does. Writes `ddp.csv`, a row for each comparison, `ddp_losses.csv`, the
loss of each step, and `run.json`.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
import torch
from jsonargparse import auto_cli
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, DistributedSampler

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.functional import sure as risk
from anomalib_cxr.utils.provenance import code_record, write_record

WARM_UP = 2
"""Steps that are left out of the time."""


class Way(NamedTuple):
    """How a training runs."""

    processes: int
    threads: int = 1
    synced: bool = True


class Case(NamedTuple):
    """What is trained."""

    reconstruction: str
    precision: str
    image_size: int
    n_features: int
    batch_size: int
    steps: int


ALONE = Way(1)
WAYS = {"synchronized": Way(2), "not synchronized": Way(2, synced=False),
        "two threads": Way(1, threads=2)}  # fmt: skip


class Recorded(RoiSureGanomaly):
    """Keeps each step's loss and time, and the first step's gradients."""

    def __init__(self, data: RoiDataset, batch_size: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.data = data
        self.batch_size = batch_size
        self.kept: dict[str, Any] = {"losses": [], "times": [], "gradients": {}}

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the share of this process of batches that are alike however many processes there are."""
        sampler = DistributedSampler(self.data, self.trainer.world_size, self.trainer.global_rank, shuffle=False)
        share = self.batch_size // self.trainer.world_size
        return DataLoader(self.data, share, sampler=sampler, collate_fn=self.data.collate_fn, drop_last=True)

    def on_fit_start(self) -> None:
        """Let the networks see images in the trainer's precision, which Lightning gives to plain tensors only."""
        super().on_fit_start()
        see = self.model.see
        self.model.see = lambda image: see(image.to(self.dtype))

    def finite_values(self, terms: dict[str, torch.Tensor], batch_idx: int) -> dict[str, float]:
        """Keep the mean over processes."""
        means = self.trainer.strategy.reduce(terms["l_gen"].detach() + terms["l_dc"].detach())
        self.kept["losses"].append(float(means))
        return super().finite_values(terms, batch_idx)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the gradients of the first step."""
        del optimizer
        if self.trainer.global_step < 2:  # noqa: PLR2004  # generator and discriminator
            weights = self.named_parameters()
            self.kept["gradients"] = {name: w.grad.clone() for name, w in weights if w.grad is not None}

    def on_train_batch_end(self, *_: Any) -> None:
        """Keep the time."""
        self.kept["times"].append(time.perf_counter())

    def on_train_end(self) -> None:
        """Write what was kept, from the first process."""
        super().on_train_end()
        if self.trainer.is_global_zero:
            self.kept["weights"] = {
                name: value
                for name, value in self.state_dict().items()
                if name.startswith(("model.", "discriminator.")) and value.is_floating_point()
            }
            torch.save(self.kept, Path(self.trainer.default_root_dir) / "kept.pt")


def fixed_signs(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Return the same signs for each image of each process."""
    del generator
    fixed = torch.Generator().manual_seed(0)
    return (2 * torch.randint(0, 2, like.shape[1:], generator=fixed) - 1).to(like.dtype).expand_as(like)


def train(case: Case, way: Way, images: Path) -> dict[str, Any]:
    """Train in this process, which must be a fresh one, and in those that it is forked into."""
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    risk._rademacher = fixed_signs  # noqa: SLF001
    torch.set_num_threads(way.threads)
    samples = make_samples(images)
    data = RoiDataset(samples[samples.label_index == 0].reset_index(drop=True))
    settings = {"image_size": case.image_size, "n_features": case.n_features, "reconstruction": case.reconstruction}
    model = Recorded(data, case.batch_size, **settings, seed=0)
    spread = {"strategy": "ddp_fork", "sync_batchnorm": way.synced} if way.processes > 1 else {}
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu", devices=way.processes, max_epochs=-1, max_steps=2 * case.steps, precision=case.precision,
            default_root_dir=folder, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, **spread,
        )  # fmt: skip
        trainer.fit(model)
        return torch.load(Path(folder) / "kept.pt", weights_only=True)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call where neither autograd nor threads have been used, after which a process cannot be forked."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of two sets of tensors, each relative to the largest value of its tensor."""
    return max(float((second[name] - value).abs().max() / value.abs().max().clamp_min(1e-30))
               for name, value in first.items())  # fmt: skip


def compare(alone: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Return how far two trainings are apart, and the seconds a step of both."""
    losses = [torch.tensor(each["losses"], dtype=torch.float64) for each in (alone, other)]
    relative = ((losses[1] - losses[0]) / losses[0]).abs()
    seconds = [
        median(torch.tensor(each["times"], dtype=torch.float64).diff()[WARM_UP:].tolist()) for each in (alone, other)
    ]
    return {
        "first_loss": float(relative[0]), "any_loss": float(relative.max()),
        "first_gradients": largest_difference(alone["gradients"], other["gradients"]),
        "last_weights": largest_difference(alone["weights"], other["weights"]),
        "seconds_alone": seconds[0], "seconds": seconds[1], "speed_up": seconds[0] / seconds[1],
    }  # fmt: skip


def main(
    output: Path = Path("results/ddp"),
    image_size: int = 64,
    n_features: int = 16,
    batch_size: int = 32,
    steps: int = 20,
    repetitions: int = 3,
    reconstructions: tuple[str, ...] = ("l2", "sure"),
    precisions: tuple[str, ...] = ("32-true", "64-true"),
    ways: tuple[str, ...] = tuple(WAYS),
) -> None:
    """Measure, print and write.

    Args:
        output: Folder of the results.
        image_size: Side of the images.
        n_features: Channels after the first convolution.
        batch_size: Images in a step, of both processes together.
        steps: Steps of a training.
        repetitions: Of each training, for the time; the differences are those of the first.
        reconstructions: Reconstruction terms to compare.
        precisions: Of the trainer.
        ways: To be compared with one process.
    """
    rows, losses = [], {}
    with TemporaryDirectory() as name:
        images = write_phantoms(Path(name) / "phantoms", n_normal=4 * batch_size, n_sick=1, size=image_size)
        for reconstruction in reconstructions:
            for precision in precisions:
                case = Case(reconstruction, precision, image_size, n_features, batch_size, steps)
                for repetition in range(repetitions):
                    alone = in_fresh_process(train, case, ALONE, images)
                    losses[f"{reconstruction}, {precision}, one process"] = alone["losses"]
                    for what in ways:
                        other = in_fresh_process(train, case, WAYS[what], images)
                        losses[f"{reconstruction}, {precision}, {what}"] = other["losses"]
                        rows.append({"reconstruction": reconstruction, "precision": precision, "way": what,
                                     "repetition": repetition, **compare(alone, other)})  # fmt: skip
    table = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "ddp.csv", index=False, float_format="%.3g")
    pd.DataFrame(losses).rename_axis("step").to_csv(output / "ddp_losses.csv", float_format="%.10g")
    settings = {"image_size": image_size, "n_features": n_features, "batch_size": batch_size, "steps": steps}
    write_record({**code_record(), "cores": os.cpu_count(), "settings": settings, "rows": rows}, output / "run.json")
    print(table.to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
