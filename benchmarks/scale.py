"""Growth of time and memory with image size, batch size and number of images.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --output results/scale

Measures a training step of RoiSureGanomaly on noise and, with rows instead of X-ray files, everything that processes
all images: samples table, splits, data set, data loader, evaluation, worklist. Each measurement runs in a process of
its own. Writes `scale.csv`, `run.json`, and one PNG plot for each of `size`, `batch` and `rows`, whose legends state
the exponent of the growth from the third largest value to the largest. Takes some 15 minutes on two cores.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from measuring import forget_greatest, resident
from PIL import Image
from torch.utils.data import DataLoader
from training_step import Steps

from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.splits import assign_splits
from anomalib_cxr.evaluation.metrics.delong import estimate_auroc
from anomalib_cxr.evaluation.metrics.screening_metrics import evaluate_scores
from anomalib_cxr.screening.calibration.record import Calibration
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.pipeline.screener import unscreened
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import write_tables
from anomalib_cxr.utils.provenance import code_record, write_record

ITEMS = 64  # X-rays read by the data loader
PAGE = 50  # rows on a page of the worklist
REPETITIONS = 3
MAX_SECONDS = 20  # no repetition beyond it, as long measurements vary little
Job = Callable[[], object]


class Measurement(NamedTuple):
    """Time and memory of a job."""

    seconds: float
    """Median of the repetitions."""
    mib: float
    """Increase of the peak resident memory, MiB."""
    gflop: float = float("nan")
    """Floating-point operations, 10^9."""


class Point(NamedTuple):
    """Point of a curve; the fields are columns of `scale.csv`."""

    what: str
    """Name of the job."""
    axis: str
    """Name of the axis."""
    at: int
    """Value on the axis."""


def measure(job: Job) -> Measurement:
    """Measure time and memory of a job."""
    forget_greatest()
    before, seconds = resident("VmRSS"), []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > MAX_SECONDS:
            break
    return Measurement(float(np.median(seconds)), resident("VmHWM") - before)


def table_of(n: int, image: Path) -> pd.DataFrame:
    """Return a samples table of n X-rays, half of them sick, with the same file as mask."""
    rows = {"image_path": [f"{image}/{i}/PHANTOM_{i:06d}_{i % 2}.png" for i in range(n)], "split": "unused",
            "label_index": np.arange(n) % 2, "mask_path": "", "roi_mask_paths": [(str(image),)] * n,
            "source": "phantom"}  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs["task"] = "classification"
    return table


def scores_of(n: int) -> pd.DataFrame:
    """Return scores of n images, half of them sick."""
    sick = np.arange(n) % 2 == 1
    score = np.random.default_rng(0).standard_normal(n) + sick
    return pd.DataFrame({"source": "phantom", "label": np.where(sick, "sick", "normal"), "score": score})


def files_of(n: int, folder: Path) -> Path:
    """Return a folder with n X-rays and n lung masks, all of them empty files."""
    for name in ("CXR_png", "masks"):
        (folder / name).mkdir()
        for number in range(n):
            (folder / name / f"PHANTOM_{number:06d}_{number % 2}.png").touch()
    return folder


def cases_of(n: int) -> Iterable[Case]:
    """Yield n cases with random scores, of files that do not exist."""
    scores = np.random.default_rng(0).random(n)
    for number, score in enumerate(scores.tolist()):
        decision = Decision.TO_READ if score > 0.8 else Decision.BELOW_THRESHOLD  # noqa: PLR2004
        path, findings = f"/archive/{number:06d}.png", "Drawn at random, to measure the page."
        yield Case(path, 1, 1, decision, score=score, probability=score**2, findings=findings, screened="2026-01-31")


def worklist_of(n: int, folder: Path) -> Worklist:
    """Return a worklist of n cases, of which all but the last have been read."""
    worklist = Worklist(folder, create=True)
    worklist.add(cases_of(n))
    (last, _), *_ = worklist.find(limit=1, offset=n - 1)
    with worklist._database.open() as database:  # noqa: SLF001  # one verdict at a time would take minutes
        database.execute(
            "INSERT INTO verdicts (case_id, verdict, note, reader, given) "
            "SELECT id, 'normal', '', 'Ada', '2026-01-31' FROM cases WHERE id != ?", [last],
        )  # fmt: skip
    return worklist


def of_table(what: str, n: int, folder: Path) -> Job:
    """Return a job on a samples table of n X-rays, by its name."""
    if what == "samples table":
        root = files_of(n, folder)
        return lambda: make_samples(root)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(image := folder / "PHANTOM_000000_0.png")
    table = table_of(n, folder)
    if what == "splits":
        return lambda: assign_splits(table, "holdout", 0, require_masks=True)
    table["image_path"], table["roi_mask_paths"] = str(image), [(str(image),)] * n
    dataset = RoiDataset(table)
    if what == "data set":
        return lambda: RoiDataset(table)
    return lambda: list(islice(DataLoader(dataset, 1, shuffle=True, collate_fn=dataset.collate_fn), ITEMS))


def of_scores(what: str, n: int, _: Path) -> Job:
    """Return a job on scores of n images, by its name."""
    table = scores_of(n)
    if what == "all figures and intervals":
        return lambda: evaluate_scores(table)
    return lambda: estimate_auroc((table.label == "sick").to_numpy(), table.score.to_numpy())


def of_worklist(what: str, n: int, folder: Path) -> Job:
    """Return a job on a worklist of n cases, by its name."""
    if what == "rows written":
        numbers = iter(range(REPETITIONS))
        return lambda: Worklist(folder / str(next(numbers)), create=True).add(cases_of(n))
    worklist = worklist_of(n, folder)
    calibration = cast("Calibration", SimpleNamespace(
        notice="", model="", date="", thresholds={}, versions={}, probability=SimpleNamespace(prevalence=0.05),
    ))  # fmt: skip
    paths = [folder / f"{number:06d}.png" for number in range(n)]

    def page(offset: int) -> None:
        worklist.count()
        worklist.latest_verdicts([number for number, _ in worklist.find(limit=PAGE, offset=offset)])
        worklist.counts()

    return {
        "first page": lambda: page(0),
        "last page": lambda: page(n - PAGE),
        "next unread": worklist.first_unread,
        "agreement": worklist.agreement,
        "what is new": lambda: unscreened(paths, worklist),
        "tables written": lambda: write_tables(worklist, calibration),
    }[what]


ROWS: dict[str, Callable[[str, int, Path], Job]] = {
    **dict.fromkeys(("samples table", "splits", "data set", f"{ITEMS} items of the loader"), of_table),
    **dict.fromkeys(("AUROC and interval", "all figures and intervals"), of_scores),
    **dict.fromkeys(
        ("rows written", "first page", "last page", "next unread", "agreement", "what is new", "tables written"),
        of_worklist,
    ),
}


def measure_rows(point: Point) -> Measurement:
    """Measure a job on a number of rows."""
    with TemporaryDirectory() as folder:
        return measure(ROWS[point.what](point.what, point.at, Path(folder)))


def measure_step(point: Point, size: int, batch: int, features: int) -> Measurement:
    """Measure time, memory and operations of a training step."""
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    steps = Steps(point.what, size, batch, features)
    forget_greatest()
    before = resident("VmRSS")
    seconds = [steps.take() for _ in range(REPETITIONS + 1)][1:]
    return Measurement(float(np.median(seconds)), resident("VmHWM") - before, steps.operations() / 1e9)


def in_fresh_process(function: Callable[..., Measurement], *arguments: Any) -> Measurement:
    """Call a function in a new process, whose memory is not affected by earlier measurements."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["anomalib.models", "anomalib_cxr.models"])  # so that each process starts fast
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def exponent(table: pd.DataFrame, column: str) -> float:
    """Return the exponent of the growth of a column, from the third largest value on the axis to the largest."""
    first, last = table.sort_values("at").iloc[[-min(3, len(table)), -1]].itertuples()
    return float(np.log(getattr(last, column) / getattr(first, column)) / np.log(last.at / first.at))


def panel(axes: Axes, table: pd.DataFrame, column: str, label: str) -> None:
    """Plot the growth of a column, with a line for each job."""
    for number, (what, part) in enumerate(table.groupby("what", sort=False)):
        part = part.sort_values("at")  # noqa: PLW2901
        power = f"{exponent(part, column):.1f}"
        axes.loglog(part["at"], part[column].clip(lower=1e-5), "os^Dvp"[number % 6] + "-", ms=4, lw=1.2,
                    color=f"C{number % 10}", label=f"{what}: {power}")  # fmt: skip
    axes.set_ylabel(label)
    axes.grid(which="major", alpha=0.3)
    axes.legend(fontsize=7, title="exponent", title_fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


AXES = {"size": "side of the image, pixels", "batch": "images in a batch", "rows": "images"}


def plot(table: pd.DataFrame, axis: str, path: Path) -> None:
    """Plot time and memory along one axis."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    time_axes, memory_axes = figure.subplots(2, 1, sharex=True)
    panel(time_axes, table, "seconds", "seconds")
    if table.gflop.notna().any():
        work = table.assign(
            what=table.what + ", its operations", seconds=table.seconds.min() * table.gflop / table.gflop.min()
        )
        for what, part in work.groupby("what", sort=False):
            time_axes.loglog(part["at"], part.seconds, "k:", lw=0.8, label=f"{what}: {exponent(part, 'gflop'):.1f}")
        time_axes.legend(
            fontsize=7, title="exponent", title_fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1)
        )
    panel(memory_axes, table.assign(mib=table.mib.clip(lower=0.1)), "mib", "MiB beside what there was")
    memory_axes.set_xlabel(AXES[axis])
    ticks = sorted(table["at"].unique())
    memory_axes.set_xticks(ticks, [f"{tick:,}".replace(",", " ") for tick in ticks])
    memory_axes.xaxis.set_minor_locator(NullLocator())
    figure.savefig(path, dpi=110)


def main(
    output: Path = Path("results/scale"),
    sizes: tuple[int, ...] = (64, 128, 256, 512),
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
    rows: tuple[int, ...] = (100, 1000, 10000, 100000),
    size: int = 64,
    batch: int = 4,
    features: int = 16,
    systems: tuple[str, ...] = ("l2", "sure"),
) -> None:
    """Measure all jobs, and write tables and plots.

    Args:
        output: Folder of the results.
        sizes: Image sizes in pixels.
        batches: Batch sizes.
        rows: Numbers of images in tables and lists.
        size: Image size for the batch sizes.
        batch: Batch size for the image sizes.
        features: Channels after the first convolution.
        systems: Reconstruction terms of the training step.
    """
    torch.set_num_threads(1)
    measurements: list[dict[str, Any]] = []

    def record(point: Point, measurement: Measurement) -> None:
        measurements.append(point._asdict() | measurement._asdict())
        print(*point, f"{measurement.seconds:.4g} s, {measurement.mib:.0f} MiB", flush=True)  # noqa: T201

    for system in systems:
        for n in sizes:
            point = Point(system, "size", n)
            record(point, in_fresh_process(measure_step, point, n, batch, features))
        for n in batches:
            point = Point(system, "batch", n)
            record(point, in_fresh_process(measure_step, point, size, n, features))
    for what in ROWS:
        for n in rows:
            point = Point(what, "rows", n)
            record(point, in_fresh_process(measure_rows, point))
    table = pd.DataFrame(measurements)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "scale.csv", index=False, float_format="%.4g")
    for axis, part in table.groupby("axis"):
        plot(part, str(axis), output / f"scale_{axis}.png")
    powers = [
        {"what": what, "axis": axis, **{name: exponent(part, name) for name in ("seconds", "mib", "gflop")}}
        for (axis, what), part in table.groupby(["axis", "what"], sort=False)
    ]
    write_record(
        {**code_record(), "cores": os.cpu_count(), "exponents": powers, "rows": measurements}, output / "run.json"
    )
    print(pd.DataFrame(powers).round(2).to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
