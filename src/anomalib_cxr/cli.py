"""The command `anomalib-cxr`: verbs that anomalib does not have.

The heavy imports happen in the verb that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from .benchmark.grid import Data, System
from .errors import CxrError

logger = logging.getLogger(__name__)


def phantom(
    root: Path,
    n_normal: int = 300,
    n_sick: int = 100,
    size: int = 256,
    seed: int = 0,
    bits: Literal[8, 16] = 8,
    gain: float = 0.0002,
    sigma: float = 0.01,
) -> None:
    """Draw synthetic chest X-rays with lung and lesion masks into a folder, in the merged layout.

    Args:
        root: Folder to make.
        n_normal: Healthy phantoms.
        n_sick: Phantoms with a finding: consolidation, nodules, cavity, effusion and miliary pattern in turn.
        size: Side in pixels.
        seed: Seed of the drawing.
        bits: Depth of the PNG files.
        gain: Strength of the Poisson noise, in the scale of [0, 1].
        sigma: Standard deviation of the Gaussian noise, in the scale of [0, 1].
    """
    from .data.phantom_drawing import NoiseModel  # noqa: PLC0415
    from .data.phantom_files import write_phantoms  # noqa: PLC0415

    noise = NoiseModel(gain=gain, sigma=sigma)
    write_phantoms(root, n_normal=n_normal, n_sick=n_sick, size=size, seed=seed, bits=bits, noise=noise)
    logger.info("%d phantoms in %s", n_normal + n_sick, root)


def benchmark(
    systems: dict[str, System],
    data: dict[str, Data],
    title: str = "Benchmark",
    output: Path = Path("results/benchmark"),
    seeds: tuple[int, ...] = (0,),
    splits: tuple[int, ...] = (0,),
    trainer: dict[str, Any] | None = None,
    shifts: dict[str, dict[str, Any]] | None = None,
    threads: int = 1,
    n_jobs: int = 1,
    root: Path | None = None,
) -> None:
    """Train a grid of systems, score each by two protocols, and report on all; goes on where it was stopped.

    Args:
        systems: Systems by name: `config`, `model`, `trainer`, `reported`, `note`.
        data: Data by name: `config`, `data`, `model` (settings of all systems there), `note`.
        title: Title of the report.
        output: Folder of the runs and the report.
        seeds: Seeds of the trainings.
        splits: Seeds of the draw that splits the data.
        trainer: Arguments of Lightning's trainer, for all systems.
        shifts: Transforms of the test images by name, each scored too.
        threads: Threads of one run.
        n_jobs: Runs at a time.
        root: Folder with the data, in place of that of the configuration.
    """
    from .benchmark.grid import Grid  # noqa: PLC0415
    from .benchmark.pipeline import Benchmark  # noqa: PLC0415

    grid = Grid(
        systems=systems,
        data={name: part.placed(root) for name, part in data.items()},
        title=title,
        seeds=seeds,
        splits=splits,
        trainer=trainer or {},
        shifts=shifts or {},
        threads=threads,
    )
    logger.info("Report: %s", Benchmark(grid, output, n_jobs).run())


VERBS: dict[str, Callable[..., None]] = {"benchmark": benchmark, "phantom": phantom}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="anomalib-cxr",
        description="Verbs for chest X-rays that `anomalib` itself does not have. For research, not a medical device.",
    )
    verbs = parser.add_subcommands()
    for name, function in VERBS.items():
        verb = ArgumentParser(description=(function.__doc__ or "").split("\n")[0])
        verb.add_argument("--config", action="config", help="File with settings of this verb.")
        verb.add_function_arguments(function, as_positional=function is not benchmark)
        verbs.add_subcommand(name, verb, help=verb.description)  # type: ignore[no-untyped-call]
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run a verb.

    Args:
        args: Arguments of the command; those of the process where None.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    parser = _parser()
    settings = parser.instantiate_classes(parser.parse_args(args))
    verb = settings.subcommand
    arguments = vars(settings[verb])
    del arguments["config"]  # by now in the others
    try:
        VERBS[verb](**arguments)
    except CxrError as error:
        parser.exit(1, f"anomalib-cxr {verb}: {error}\n")
