"""The command `anomalib-cxr`: verbs that anomalib does not have.

The heavy imports happen in the verb that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from .benchmark.grid import Data, Plain, System
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
    dicom: bool = False,
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
        dicom: Write them as DICOM files with a DICOMDIR, too.
    """
    from .data.phantom_dicom import write_phantom_dicom  # noqa: PLC0415
    from .data.phantom_drawing import NoiseModel  # noqa: PLC0415
    from .data.phantom_files import write_phantoms  # noqa: PLC0415

    noise = NoiseModel(gain=gain, sigma=sigma)
    write_phantoms(root, n_normal=n_normal, n_sick=n_sick, size=size, seed=seed, bits=bits, noise=noise)
    if dicom:
        write_phantom_dicom(root)
    logger.info("%d phantoms in %s", n_normal + n_sick, root)


def benchmark(
    systems: dict[str, System],
    data: dict[str, Data],
    title: str = "Benchmark",
    output: Path = Path("results/benchmark"),
    seeds: tuple[int, ...] = (0,),
    splits: tuple[int, ...] = (0,),
    trainer: Plain | None = None,
    threads: int = 1,
    n_jobs: int = 1,
    root: Path | None = None,
) -> None:
    """Train a grid of systems, score each by two protocols, and report on all; goes on where it was stopped.

    Args:
        systems: Systems by name: `config`, `model`, `trainer`, `data` (settings of all data for it), `reported` and
            `note`.
        data: Data by name: `config`, `data`, `model` and `systems` (settings of all or of single systems
            there), `shifts`, `note`.
        title: Title of the report.
        output: Folder of the runs and the report.
        seeds: Seeds of the trainings.
        splits: Seeds of the draw that splits the data.
        trainer: Arguments of Lightning's trainer, for all systems.
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
        threads=threads,
    )
    logger.info("Report: %s", Benchmark(grid, output, n_jobs).run())


def segment_train(
    root: Path,
    output: Path,
    image_size: int = 256,
    widths: tuple[int, ...] = (8, 16, 32, 64, 128),
    steps: int = 1500,
    batch_size: int = 16,
    test_share: float = 0.2,
    seed: int = 0,
) -> None:
    """Train a lung segmenter on X-rays with lung masks, and measure it on those held out.

    Args:
        root: Folder with the data.
        output: Folder to write: segmenter.pt, dice.csv, summary.csv, worst.png, run.json.
        image_size: Side in pixels at which the network works; a multiple of 16.
        widths: Channels of its five levels.
        steps: Batches to train on.
        batch_size: Images in a batch.
        test_share: Share of each hospital's and label's images that is held out.
        seed: Seed of the draw, of the first weights, and of the training.
    """
    from .evaluation.segmenter import SegmenterSettings, train_segmenter  # noqa: PLC0415

    settings = SegmenterSettings(image_size, widths, steps, batch_size, test_share, seed)
    summary = train_segmenter(root, output, settings)
    logger.info("Dice on held-out images, with 95 %% intervals:\n%s", summary.round(4).to_string(index=False))
    logger.info("Segmenter and figures: %s", output)


def segment_predict(segmenter: Path, root: Path, predicted_masks: Path | None = None) -> None:
    """Predict lung masks for the X-rays of a folder that have none; goes on where it was stopped.

    Args:
        segmenter: File of the segmenter, the segmenter.pt of `segment train`.
        root: Folder with the data.
        predicted_masks: Folder of the masks; `predicted_masks` in the root where it is not given.
    """
    from .data.lung_masks import predict_for_root  # noqa: PLC0415

    prediction = predict_for_root(root, segmenter, predicted_masks)
    logger.info("%d lung masks written", prediction.written)
    prediction.refuse_offenders()


Verb = Callable[..., None]
VERBS: Mapping[str, Verb | Mapping[str, Verb]] = {
    "benchmark": benchmark,
    "phantom": phantom,
    "segment": {"train": segment_train, "predict": segment_predict},
}
_GROUPS = {"segment": "Train a lung segmenter, or predict lung masks by it."}
_POSITIONAL = {phantom}


def _parser_of(verb: Verb) -> ArgumentParser:
    parser = ArgumentParser(description=(verb.__doc__ or "").split("\n")[0])
    parser.add_argument("--config", action="config", help="File with settings of this verb.")
    parser.add_function_arguments(verb, as_positional=verb in _POSITIONAL)
    return parser


def _add_verbs(parser: ArgumentParser, verbs: Mapping[str, Verb | Mapping[str, Verb]]) -> None:
    """Add verbs to a parser, and to the parser of a group of verbs those of the group."""
    subcommands = parser.add_subcommands()
    for name, verb in verbs.items():
        part = _parser_of(verb) if callable(verb) else ArgumentParser(description=_GROUPS[name])
        subcommands.add_subcommand(name, part, help=part.description)  # type: ignore[no-untyped-call]
        if not callable(verb):
            _add_verbs(part, verb)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="anomalib-cxr",
        description="Verbs for chest X-rays that `anomalib` itself does not have. For research, not a medical device.",
    )
    _add_verbs(parser, VERBS)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run a verb.

    Args:
        args: Arguments of the command; those of the process where None.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    parser = _parser()
    settings = parser.instantiate_classes(parser.parse_args(args))
    verb: Any = VERBS
    words = []
    while not callable(verb):
        words.append(settings.subcommand)
        verb, settings = verb[words[-1]], settings[words[-1]]
    arguments = vars(settings)
    del arguments["config"]  # by now in the others
    try:
        verb(**arguments)
    except CxrError as error:
        parser.exit(1, f"anomalib-cxr {' '.join(words)}: {error}\n")
