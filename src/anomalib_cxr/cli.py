"""The command `anomalib-cxr`: one function per verb, whose signature and docstring make its options and help.

A verb imports what it needs when it runs, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from anomalib_cxr.benchmark.plan.grid import Batches, DataConfig, Scoring, SystemConfig, YamlDict, with_root
from anomalib_cxr.node.archive_url import archive_url
from anomalib_cxr.node.certificates import Certificates
from anomalib_cxr.node.verbs import deliveries, destinations_of, listen
from anomalib_cxr.screening.worklist.verbs import backup, monitor, purge, restore, selftest, upgrade
from anomalib_cxr.utils.command_line import Parser, verb_parser
from anomalib_cxr.utils.settings import NonNegativeFloat, SixteenBitWhite, check_settings
from anomalib_cxr.web.verbs import (
    audit_list,
    audit_verify,
    blind_close,
    blind_open,
    deidentify,
    users_add,
    users_list,
    users_password,
    users_remove,
)

from ._version import __version__
from .errors import CxrError, SettingError, require_extra

logger = logging.getLogger(__name__)


def init(folder: Path) -> None:
    """Copy the example configurations, and a README with commands to start from, into a folder.

    Args:
        folder: Folder to create or to add to; existing files are never overwritten.
    """
    from anomalib_cxr.utils.examples import copy_examples  # noqa: PLC0415

    copy_examples(folder)
    logger.info("Configurations in %s; next: see %s", folder / "configs", folder / "README.md")


def phantom(
    folder: Path,
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
        folder: Folder to create.
        n_normal: Number of healthy phantoms.
        n_sick: Number of phantoms with a finding: consolidation, nodules, cavity, effusion and miliary pattern in turn.
        size: Side in pixels.
        seed: Seed of the drawing.
        bits: Bits per pixel of the PNG files.
        gain: Strength of the Poisson noise, in the scale of [0, 1].
        sigma: Standard deviation of the Gaussian noise, in the scale of [0, 1].
        dicom: Also write DICOM files with a DICOMDIR.
    """
    from anomalib_cxr.data.phantom.dicom import write_phantom_dicom  # noqa: PLC0415
    from anomalib_cxr.data.phantom.drawing import NoiseModel  # noqa: PLC0415
    from anomalib_cxr.data.phantom.files import write_phantoms  # noqa: PLC0415

    noise = NoiseModel(gain=gain, sigma=sigma)
    write_phantoms(folder, n_normal=n_normal, n_sick=n_sick, size=size, seed=seed, bits=bits, noise=noise)
    if dicom:
        write_phantom_dicom(folder)
    logger.info("%d phantoms in %s", n_normal + n_sick, folder)


def benchmark(
    systems: dict[str, SystemConfig],
    data: dict[str, DataConfig],
    title: str = "Benchmark",
    output: Path = Path("results/benchmark"),
    seeds: tuple[int, ...] = (0,),
    splits: tuple[int, ...] = (0,),
    trainer: YamlDict | None = None,
    threads: int = 1,
    n_jobs: int = 1,
    root: Path | None = None,
    scoring: tuple[Scoring, ...] = (),
    batches: tuple[Batches, ...] = ("mixed", "by_class"),
    only: tuple[str, ...] = (),
) -> None:
    """Train and evaluate a grid of systems, and write a report; resumes an interrupted benchmark.

    Args:
        systems: Systems by name, from the configuration file: `config`, `model`, `trainer`, `data`, `reported`, `note`.
        data: Data sets by name, from the configuration file: `config`, `data`, `model`, `systems`, `shifts`, `note`.
        title: Title of the report.
        output: Folder of the runs and the report.
        seeds: Seeds of the trainings, such as 0,1,2.
        splits: Seeds of the splits of the data, such as 0,1,2.
        trainer: Arguments of Lightning's trainer for all systems.
        threads: Threads of one run.
        n_jobs: Runs at the same time.
        root: Folder of the data set; overrides the one in the configuration.
        scoring: Ways of scoring to compare on validation: inference, and batch_statistics as GANomaly's code does.
        batches: Batches of the latter: mixed, and by_class.
        only: Systems to train and to report on, such as roi_l2,ganomaly; all of the configuration by default.
    """
    from anomalib_cxr.benchmark.plan.grid import Grid  # noqa: PLC0415
    from anomalib_cxr.benchmark.plan.resolve import choose_systems  # noqa: PLC0415
    from anomalib_cxr.benchmark.run.pipeline import Benchmark  # noqa: PLC0415
    from anomalib_cxr.utils.processes import ended_by_sigterm  # noqa: PLC0415

    grid = Grid(
        systems=systems,
        data={name: replace(part, data=with_root(part.data, root)) for name, part in data.items()},
        title=title,
        seeds=seeds,
        splits=splits,
        trainer=trainer or {},
        threads=threads,
        scoring=scoring,
        batches=batches,
    )
    with ended_by_sigterm():
        logger.info("Report: %s", Benchmark(choose_systems(grid, only), output, n_jobs).run())


def segment_train(
    root: Path,
    output: Path,
    image_size: int = 256,
    widths: tuple[int, ...] = (8, 16, 32, 64, 128),
    steps: int = 1500,
    batch_size: int = 16,
    test_share: float = 0.2,
    seed: int = 0,
    sixteen_bit_white: SixteenBitWhite | None = None,
    split_table: Path | None = None,
    learn_from_sick: bool = False,
) -> None:
    """Train a lung segmenter on healthy X-rays with lung masks, and measure its Dice on held-out images.

    Args:
        root: Folder of the data set.
        output: Folder to write: segmenter.pt, dice.csv, summary.csv, worst.png, run.json.
        image_size: Side in pixels of the network's input; a multiple of 16.
        widths: Channels of the network's five levels.
        steps: Number of training batches.
        batch_size: Images in a batch.
        test_share: Share of each hospital's and label's images that is held out for the test.
        seed: Seed of the split, the initial weights and the training.
        sixteen_bit_white: White of 16-bit images, such as 4095 for the 12 bits of a detector.
        split_table: CSV file of splits, whose healthy training images alone train, for a segmenter that is to be used
            with data of protocol `table`; the seed is its column.
        learn_from_sick: Train on sick images, too; a model of healthy images that uses this segmenter has then seen
            sick ones.
    """
    from anomalib_cxr.segmentation.experiment import SegmenterSettings, train_segmenter  # noqa: PLC0415

    settings = SegmenterSettings(
        image_size, widths, steps, batch_size, test_share, seed, sixteen_bit_white, split_table, learn_from_sick
    )
    summary = train_segmenter(root, output, settings)
    logger.info("Dice on held-out images, with 95 %% intervals:\n%s", summary.round(4).to_string(index=False))
    logger.info("Segmenter and figures: %s", output)


def segment_predict(
    root: Path,
    segmenter: Path | None = None,
    predicted_masks: Path | None = None,
    sixteen_bit_white: SixteenBitWhite | None = None,
) -> None:
    """Predict lung masks for the X-rays of a data set that have none; resumes an interrupted run.

    Args:
        root: Folder of the data set.
        segmenter: Segmenter file, the segmenter.pt of `segment train`; by default that of the package.
        predicted_masks: Folder of the predicted masks; by default `predicted_masks` in the root.
        sixteen_bit_white: White of 16-bit images, such as 4095 for the 12 bits of a detector.
    """
    from anomalib_cxr.segmentation.prediction import predict_for_root  # noqa: PLC0415

    prediction = predict_for_root(root, segmenter, predicted_masks, sixteen_bit_white)
    logger.info("%d lung masks written", prediction.written)
    prediction.refuse_offenders()


def plan(sensitivity: float = 0.99, confidence: float = 0.95, prevalence: float = 0.05) -> None:
    """Tell how many sick people a calibration needs, before any X-ray is collected; it needs no model.

    Args:
        sensitivity: Share of sick people to guarantee at or above the threshold.
        confidence: Confidence level of the finite-sample sensitivity guarantee.
        prevalence: Share of sick people among those who are X-rayed to find them.
    """
    from anomalib_cxr.screening.calibration.groups import CalibrationTarget  # noqa: PLC0415
    from anomalib_cxr.screening.study.plan import describe_plan  # noqa: PLC0415

    logger.info("%s", describe_plan(CalibrationTarget(sensitivity, confidence, prevalence)))


def calibrate(
    model: Path,
    data: YamlDict | None = None,
    table: Path | None = None,
    root: Path | None = None,
    parts: tuple[Literal["val", "test"], ...] = ("val",),
    sensitivity: float = 0.99,
    confidence: float = 0.95,
    prevalence: float = 0.05,
    by: Literal["none", "hospital", "sex", "age"] = "none",
    segmenter: Path | None = None,
    sixteen_bit_white: SixteenBitWhite | None = None,
    device: str = "CPU",
    force: bool = False,
    study: Path | None = None,
    cost_screened: float = 1.0,
    cost_read: float = 1.0,
    compare: Path | None = None,
) -> None:
    """Calibrate a model for screening: a threshold with a guaranteed sensitivity, and probabilities.

    Writes screening.json, the input quality check and the lung segmenter beside the exported model, and the threshold
    into it. For research, not a medical device.

    Args:
        model: Folder of a model exported to OpenVINO, or of a training, which is then exported.
        data: Data module whose held-out parts calibrate, such as `--config` with a file of configs/data; by default
            that of the training.
        table: CSV file of labeled X-rays instead of a data module: `image`, `label` (normal or sick), and optionally
            `patient`, `hospital`, `view`, `sex` and `age`.
        root: Folder of the data set; overrides the one in the configuration.
        parts: Parts of the data module that calibrate: val, test, or val,test.
        sensitivity: Share of sick people guaranteed to score at or above the threshold.
        confidence: Confidence level of the finite-sample sensitivity guarantee.
        prevalence: Share of sick people among those screened, for the probabilities.
        by: One threshold for all, or one per hospital, sex or age group.
        segmenter: Lung segmenter file; by default that of the package.
        sixteen_bit_white: White of the 16-bit images of a table, such as 4095; by default that of the training.
        device: OpenVINO device.
        force: Calibrate a model that does not detect on these images, too; for trials only.
        study: Folder to write a report into: rates, workload and costs over all thresholds, HTML and CSV.
        cost_screened: Cost of each person who is screened, for the study.
        cost_read: Further cost of each person whose X-ray is read, for the study.
        compare: Second model, as --model, to compare on the same images in the study; it is not calibrated.
    """
    from anomalib_cxr.deploy.runtime import graph_of, read_white  # noqa: PLC0415
    from anomalib_cxr.screening.calibrate import Study  # noqa: PLC0415
    from anomalib_cxr.screening.calibrate import calibrate as calibrate_exported  # noqa: PLC0415
    from anomalib_cxr.screening.calibration.groups import CalibrationTarget  # noqa: PLC0415
    from anomalib_cxr.screening.calibration_data import (  # noqa: PLC0415
        data_settings,
        ensure_exported,
        labeled_by_datamodule,
    )
    from anomalib_cxr.screening.calibration_table import labeled_by_table  # noqa: PLC0415

    target = CalibrationTarget(sensitivity, confidence, prevalence, by)
    if compare and not study:
        raise SettingError("--compare without --study", "the folder of the report that compares", "add --study")
    data = data or (None if table else data_settings(model))
    if (data is None) == (table is None):
        raise SettingError(
            "both data and table" if table else f"neither data nor table, and {model} has no config.yaml of a training",
            "one of the two",
            "give --config with a file of configs/data, or --table",
        )
    settings = None if data is None else with_root(data, root)
    folder = ensure_exported(model)
    white = read_white(graph_of(folder)) if sixteen_bit_white is None else sixteen_bit_white
    labeled = labeled_by_table(table, white) if table else labeled_by_datamodule(settings or {}, parts)
    calibration = calibrate_exported(
        folder,
        labeled,
        target,
        segmenter=segmenter,
        data=settings or str(table),
        device=device,
        force=force,
        study=None if study is None else Study(study, cost_screened, cost_read, compare and ensure_exported(compare)),
    )
    logger.info("%s", calibration.description)
    logger.info("%s: %s", "Not fit to screen" if calibration.weaknesses else "Ready to screen", folder)


def screen(
    xrays: list[Path],
    model: Path,
    worklist: Path,
    device: str = "CPU",
    hospital: str = "",
    any_source: bool = False,
    dicom: bool = False,
    names: bool = False,
    engine: Literal["local", "ray"] = "local",
    watch: bool = False,
    quiet: NonNegativeFloat = 10.0,
    dates: str = "",
    modality: tuple[str, ...] = ("CR", "DX"),
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    send: tuple[str, ...] = (),
    ae_title: str = "ANOMALIB_CXR",
) -> None:
    """Screen X-rays with a calibrated model into a worklist; resumes an interrupted screening.

    Writes worklist.csv, worklist.json, left_out.csv and a heatmap for each X-ray. For research, not a medical device.

    Args:
        xrays: X-ray files, folders and DICOMDIR files; archives as dicomweb://HOST:PORT/PATH of their DICOMweb service,
            or dicomwebs:// for HTTPS, whose X-rays are fetched into the worklist.
        model: Folder of a calibrated model.
        worklist: Folder of the worklist.
        device: OpenVINO device.
        hospital: Hospital whose threshold to use, for a calibration with one per hospital.
        any_source: Also score X-rays from sources that the model was not calibrated on; the input check still refuses
            what is no frontal chest X-ray.
        dicom: Also write DICOM objects for each scored X-ray: Secondary Capture, structured report, presentation state
            with an outline, and a PDF page. Those of a refused one say why.
        names: Keep patient names and IDs in the worklist and its tables.
        engine: Run on this machine, or on a Ray cluster.
        watch: Go on until Ctrl-C, and screen what comes into the folders, or changes there.
        quiet: Seconds for which a file of a watched folder must not have changed.
        dates: Study dates to fetch from archives, YYYYMMDD or YYYYMMDD-YYYYMMDD; all by default.
        modality: Modalities to fetch from archives, separated by commas.
        ca: Certificates of authorities of archives, PEM; by default those that are commonly trusted.
        certificate: Certificate of this machine for archives that ask for one, PEM.
        key: Private key of the certificate, PEM; by default in the same file.
        send: Where to send the results of DICOM X-rays, as for `listen`; what cannot be sent waits for the next time.
        ae_title: AE title by which results are sent.
    """
    check_settings(screen, locals(), "the options")
    if dicom:
        require_extra("highdicom", "dicom")
    if engine == "ray":
        require_extra("ray", "ray")
    from anomalib_cxr.data.reading.discovery import FoundFiles  # noqa: PLC0415
    from anomalib_cxr.screening.pipeline.inputs import describe_left_out, find_inputs  # noqa: PLC0415
    from anomalib_cxr.screening.pipeline.screener import (  # noqa: PLC0415
        Screener,
        ScreenerSettings,
        describe_screening,
    )
    from anomalib_cxr.screening.pipeline.screener import screen as screen_into  # noqa: PLC0415
    from anomalib_cxr.screening.worklist.tables import LEFT_OUT  # noqa: PLC0415

    certificates = Certificates(ca, certificate, key)
    destinations = destinations_of(send, ae_title, certificates)
    archives = [url for url in map(archive_url, xrays) if url]
    local = [path for path in xrays if not archive_url(path)]
    if archives:
        require_extra("dicomweb_client", "dicom")
    if watch:
        if engine != "local" or archives:
            raise SettingError("--watch with --engine ray or an archive", "folders, on this machine", "leave it out")
        from anomalib_cxr.node.watch import watch_folders  # noqa: PLC0415

        watch_folders(
            xrays, ScreenerSettings(model, worklist, device, hospital, any_source, dicom, names), quiet, destinations
        )
        return
    files, left_out = find_inputs(local) if local or not archives else FoundFiles([], {})
    if archives:
        from anomalib_cxr.node.fetch import fetch_archives  # noqa: PLC0415  # an extra

        found = fetch_archives(archives, worklist, dates, modality, certificates)
        files, left_out = [*files, *found.files], {**left_out, **found.left_out}
    screener = Screener(ScreenerSettings(model, worklist, device, hospital, any_source, dicom, names))
    if engine == "ray":
        from anomalib_cxr.screening.pipeline.ray_engine import RayEngine  # noqa: PLC0415  # an extra that not everyone has

        run: Any = RayEngine(screener.settings)
    else:
        run = screener.cases
    screened = screen_into(files, screener.settings, screener.calibration, run, left_out=left_out)
    logger.info("%s", describe_screening(screened, screener.calibration))
    if left_out:
        logger.warning("%s\n  all of them: %s", describe_left_out(left_out), worklist / LEFT_OUT)
    logger.info("Worklist: %s", worklist)
    if destinations:
        from anomalib_cxr.node.sending import send_results  # noqa: PLC0415  # an extra

        send_results(destinations, screened)


def serve(
    worklist: Path,
    model: Path | None = None,
    hospital: str = "",
    host: str = "127.0.0.1",
    port: int = 8765,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve a worklist as a web page and record the readers' verdicts, until Ctrl-C.

    Once the worklist has an account, made by `anomalib-cxr users add`, everyone has to sign in. For research, not a
    medical device.

    Args:
        worklist: Folder of the worklist.
        model: Folder of the calibrated model, to screen single images uploaded from the browser.
        hospital: Hospital whose threshold to use for these, for a calibration with one per hospital.
        host: Address to listen on; any but this machine's own needs an account.
        port: Port to listen on; 0 for any free port.
        certificate: Certificate of the server in PEM, to encrypt all connections.
        key: Private key of the certificate.
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "itsdangerous", "argon2"):
        require_extra(module, "serve")
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415
    from anomalib_cxr.web.routes.upload import screening_into  # noqa: PLC0415
    from anomalib_cxr.web.server import run_server  # noqa: PLC0415
    from anomalib_cxr.web.tls import TlsFiles  # noqa: PLC0415

    tls = TlsFiles.given(certificate, key)
    opened = Worklist(worklist, wait=5)  # a page must not seem to hang
    screen_one = None if model is None else screening_into(opened, model, hospital)
    run_server(opened, screen_one, host=host, port=port, tls=tls)


INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C, as shells have it."""
Verb = Callable[..., None]
VERBS: Mapping[str, Verb | Mapping[str, Verb]] = {
    "init": init,
    "phantom": phantom,
    "benchmark": benchmark,
    "segment": {"train": segment_train, "predict": segment_predict},
    "plan": plan,
    "calibrate": calibrate,
    "screen": screen,
    "serve": serve,
    "deidentify": deidentify,
    "blind": {"open": blind_open, "close": blind_close},
    "audit": {"verify": audit_verify, "list": audit_list},
    "users": {"add": users_add, "list": users_list, "password": users_password, "remove": users_remove},
    "selftest": selftest,
    "monitor": monitor,
    "backup": backup,
    "restore": restore,
    "purge": purge,
    "upgrade": upgrade,
    "listen": listen,
    "deliveries": deliveries,
}
_GROUPS = {
    "segment": "Train a lung segmenter, or predict lung masks.",
    "blind": "Open or close a blind reading of a worklist.",
    "audit": "Check or print the audit log of the page of a worklist.",
    "users": "Manage the accounts of the page of a worklist.",
}
_POSITIONAL: Mapping[str, Mapping[str, Any]] = {"folder": {}, "xrays": {"nargs": "+"}, "name": {"type": str}}
"""Arguments without dashes: the folder that a verb creates, the X-rays to screen, and the name of an account."""
_OF_MODELS = {"selftest"}
"""Verbs about a model alone, which is their argument, without dashes."""
_OF_WORKLISTS = {"deliveries", "monitor", "backup", "restore", "purge", "upgrade"}
"""Verbs about a worklist alone, which is an argument without dashes, as is the backup that it is made from."""


def _add_verbs(parser: ArgumentParser, verbs: Mapping[str, Verb | Mapping[str, Verb]]) -> None:
    """Add verbs to a parser, and to the parser of a group of verbs those of the group."""
    subcommands = parser.add_subcommands()
    for name, verb in verbs.items():
        own = ("worklist", "backup") if name in _OF_WORKLISTS else ("model",) if name in _OF_MODELS else ()
        positional = {**_POSITIONAL, **{argument: {} for argument in own}}
        part = verb_parser(verb, positional) if callable(verb) else Parser(description=_GROUPS[name])
        subcommands.add_subcommand(name, part, help=part.description)  # type: ignore[no-untyped-call]
        if not callable(verb):
            _add_verbs(part, verb)


def _parser() -> ArgumentParser:
    parser = Parser(
        prog="anomalib-cxr",
        description="Commands for chest X-rays that `anomalib` does not have. For research, not a medical device.",
        version=__version__,
    )
    _add_verbs(parser, VERBS)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run a verb.

    Args:
        args: Arguments of the command; those of the process where None.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger(__package__).setLevel(logging.INFO)  # not of the libraries: an export alone would fill pages
    warnings.filterwarnings("ignore", message="lbfgs failed to converge", module=r"sklearn\.")
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
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f"anomalib-cxr {' '.join(words)}: interrupted\n")
