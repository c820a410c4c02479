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

from anomalib_cxr.benchmark.plan.grid import Data, Plain, System

from .errors import CxrError, SettingError, require_extra

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
    from anomalib_cxr.data.phantom.dicom import write_phantom_dicom  # noqa: PLC0415
    from anomalib_cxr.data.phantom.drawing import NoiseModel  # noqa: PLC0415
    from anomalib_cxr.data.phantom.files import write_phantoms  # noqa: PLC0415

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
    from anomalib_cxr.benchmark.plan.grid import Grid  # noqa: PLC0415
    from anomalib_cxr.benchmark.run.pipeline import Benchmark  # noqa: PLC0415

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
    from anomalib_cxr.segmentation.experiment import SegmenterSettings, train_segmenter  # noqa: PLC0415

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
    from anomalib_cxr.segmentation.prediction import predict_for_root  # noqa: PLC0415

    prediction = predict_for_root(root, segmenter, predicted_masks)
    logger.info("%d lung masks written", prediction.written)
    prediction.refuse_offenders()


def calibrate(
    model: Path,
    data: Plain | None = None,
    table: Path | None = None,
    root: Path | None = None,
    parts: tuple[Literal["val", "test"], ...] = ("val",),
    sensitivity: float = 0.99,
    confidence: float = 0.95,
    prevalence: float = 0.05,
    by: Literal["none", "hospital", "sex", "age"] = "none",
    segmenter: Path | None = None,
    device: str = "CPU",
    seed: int = 0,
) -> None:
    """Find the threshold under which an X-ray is ruled out, and make a model ready to screen.

    Writes screening.json, the gate and the lung finder beside the exported model, and its threshold into it. For
    research, not a medical device.

    Args:
        model: Folder of a model exported to OpenVINO, or folder of a training, which is exported first.
        data: Data module, whose held-out parts are calibrated with; without it, that of the training. `--config` with a
            file of configs/data has one.
        table: In place of it, CSV with `image`, `label` (normal or sick), and perhaps `hospital`, `sex` and `age`.
        root: Folder with the data, in place of that of the configuration.
        parts: Parts of the data module to calibrate with.
        sensitivity: Share of the sick that are to be read.
        confidence: With which this is to hold, however few images there are.
        prevalence: Share of sick people among those screened, for the probability.
        by: One threshold for all, or for each hospital, sex or age group.
        segmenter: File of a lung segmenter; without it, one is trained on the lung masks of the training images.
        device: OpenVINO's name of the device.
        seed: Of the gate, and of the segmenter that is trained.
    """
    from anomalib_cxr.screening.calibrate import CalibrationTarget, describe_calibration  # noqa: PLC0415
    from anomalib_cxr.screening.calibrate import calibrate as calibrate_exported  # noqa: PLC0415
    from anomalib_cxr.screening.calibration_data import data_of, exported_of, labeled_by_datamodule, labeled_by_table  # noqa: PLC0415  # noqa: PLC0415

    data = data or (None if table else data_of(model))
    if (data is None) == (table is None):
        raise SettingError(
            "both data and table" if table else f"neither data nor table, and {model} has no config.yaml of a training",
            "one of the two",
            "give --config with a file of configs/data, or --table",
        )
    settings = None if data is None else Data(data=data).placed(root).data
    labeled = labeled_by_table(table) if table else labeled_by_datamodule(settings or {}, parts)
    folder = exported_of(model)
    wish = CalibrationTarget(sensitivity, confidence, prevalence, by)
    found = calibrate_exported(
        folder, labeled, wish, segmenter=segmenter, data=settings or str(table), device=device, seed=seed
    )
    logger.info("%s", describe_calibration(found))
    logger.info("Ready to screen: %s", folder)


def screen(
    inputs: list[Path],
    model: Path,
    output: Path,
    device: str = "CPU",
    hospital: str = "",
    any_source: bool = False,
    dicom: bool = False,
    names: bool = False,
    engine: Literal["local", "ray"] = "local",
) -> None:
    """Screen X-rays with a calibrated model into a worklist; goes on where it was stopped.

    Writes worklist.csv, worklist.json and a heatmap of each X-ray. For research, not a medical device.

    Args:
        inputs: Files, folders and DICOMDIR files.
        model: Folder of a calibrated model.
        output: Folder of the worklist.
        device: OpenVINO's name of the device.
        hospital: Whose threshold holds, where the calibration has one for each.
        any_source: Score X-rays of sources, too, that the model was not validated on.
        dicom: Write a DICOM Secondary Capture and a structured report for each, too.
        names: Tell patients' names and IDs in the tables.
        engine: Where the work is done: here, or on a Ray cluster.
    """
    if dicom:
        require_extra("highdicom", "dicom")
    if engine == "ray":
        require_extra("ray", "ray")
    from anomalib_cxr.screening.pipeline.inputs import find_inputs  # noqa: PLC0415
    from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings  # noqa: PLC0415
    from anomalib_cxr.screening.pipeline.screener import screen as screen_into  # noqa: PLC0415

    files = find_inputs(inputs, output)
    screener = Screener(ScreenerSettings(model, output, device, hospital, any_source, dicom))
    if engine == "ray":
        from anomalib_cxr.screening.pipeline.ray_engine import RayEngine  # noqa: PLC0415  # an extra that not everyone has

        worklist = screen_into(files, output, screener.calibration, RayEngine(screener.settings), names=names)
    else:
        worklist = screen_into(files, output, screener.calibration, screener.cases, names=names)
    counts = worklist.counts()
    logger.info("%s", ", ".join(f"{count} {decision.value}" for decision, count in counts.items()))
    logger.info("Worklist: %s", output)


def serve(
    output: Path,
    model: Path | None = None,
    hospital: str = "",
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
) -> None:
    """Show a worklist in the browser, and keep what readers say of it, until Ctrl-C.

    For research, not a medical device.

    Args:
        output: Folder of the worklist.
        model: Folder of the calibrated model, to screen single images that are sent from the browser.
        hospital: Whose threshold holds for these, where the calibration has one for each.
        host: Address to listen on; any but this machine's own needs a token.
        port: Port to listen on; 0 for any that is free.
        token: What readers sign in with, 16 characters at least.
    """
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415
    from anomalib_cxr.web.routes.upload import screening_into  # noqa: PLC0415
    from anomalib_cxr.web.server import run_server  # noqa: PLC0415

    worklist = Worklist(output)
    screen_one = None if model is None else screening_into(worklist, model, hospital)
    run_server(worklist, screen_one, host=host, port=port, token=token)


Verb = Callable[..., None]
VERBS: Mapping[str, Verb | Mapping[str, Verb]] = {
    "benchmark": benchmark,
    "calibrate": calibrate,
    "phantom": phantom,
    "screen": screen,
    "segment": {"train": segment_train, "predict": segment_predict},
    "serve": serve,
}
_GROUPS = {"segment": "Train a lung segmenter, or predict lung masks by it."}
_POSITIONAL: Mapping[Verb, Mapping[str, Any]] = {
    phantom: {"root": {"type": Path, "help": "Folder to make."}},
    calibrate: {
        "model": {"type": Path, "help": "Folder of an exported model, or of a training, which is exported first."}
    },
    screen: {"inputs": {"type": Path, "nargs": "+", "help": "Files, folders and DICOMDIR files."}},
    serve: {"output": {"type": Path, "help": "Folder of the worklist."}},
}
"""Arguments without dashes, each with how it is read."""


def _parser_of(verb: Verb) -> ArgumentParser:
    parser = ArgumentParser(description=(verb.__doc__ or "").split("\n")[0])
    parser.add_argument("--config", action="config", help="File with settings of this verb.")
    positional = _POSITIONAL.get(verb, {})
    parser.add_function_arguments(verb, as_positional=False, skip=set(positional))
    for name, reading in positional.items():
        parser.add_argument(name, **reading)
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
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger(__package__).setLevel(logging.INFO)  # not of the libraries: an export alone would tell pages
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
