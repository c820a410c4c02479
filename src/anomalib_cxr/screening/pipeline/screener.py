"""Screening of files into a worklist: inputs, rows with their images, and interruption."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from rich.progress import Progress

from anomalib_cxr.data.reading.metadata import Header
from anomalib_cxr.data.reading.written import mark_folder
from anomalib_cxr.deploy.runtime import ExportedModel, graph_of
from anomalib_cxr.errors import ScreeningError, require_extra
from anomalib_cxr.screening.calibration.probability import p_values
from anomalib_cxr.screening.calibration.record import INPUT_CHECK, Calibration, read_calibration
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, HEATMAPS, LAYERS, Case, Decision, case_images
from anomalib_cxr.screening.worklist.lock import worklist_lock
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import write_left_out, write_tables
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH, ExportedSegmenter
from anomalib_cxr.utils.files import private_folder
from anomalib_cxr.utils.path_text import path_as_text

from .explanation import describe, draw_heatmap, write_png
from .input_check import InputCheck
from .pipeline import ImageResult, ScreeningPipeline
from .resumption import row_options, unscreened

OBJECTS = "dicom"
_CASE_NAMES = {"view_position": "view", "study_date": "taken"}  # fields of a header that a case has by another name


@dataclass(frozen=True)
class ScreenerSettings:
    """Settings of a screener, light enough to be sent to workers on other machines.

    Args:
        model: Folder of the calibrated model.
        output: Folder of the worklist.
        device: OpenVINO's name of the device.
        hospital: Hospital whose threshold holds, where the calibration has one for each.
        any_source: Score X-rays from sources that the model was not validated on, too.
        dicom: Write DICOM objects for each image that is scored, and for each X-ray that is refused, too.
        names: Keep patients' names and IDs in the worklist and its tables.
    """

    model: Path
    output: Path
    device: str = "CPU"
    hospital: str = ""
    any_source: bool = False
    dicom: bool = False
    names: bool = False


class Screener:
    """Screens files with a calibrated model, and writes their heatmaps.

    Args:
        settings: Settings of the screener.

    Raises:
        MissingExtraError: If DICOM objects are asked for without highdicom.
        ScreeningError: If the model is not calibrated, a file beside it is not the calibrated one, or a hospital is
            needed and unknown.
    """

    def __init__(self, settings: ScreenerSettings) -> None:
        if settings.dicom:
            require_extra("highdicom", "dicom")
        folder = graph_of(settings.model).parent
        self.calibration = read_calibration(folder)
        self.calibration.refuse_hospital(settings.hospital)
        self.settings = settings
        model = ExportedModel(folder, settings.device)
        segmenter = ExportedSegmenter(folder / SEGMENTER_GRAPH, settings.device)
        check_file = folder / INPUT_CHECK
        check = check_file.read_bytes()
        _refuse_exchanged(
            folder, self.calibration, model, {**segmenter.hashes, INPUT_CHECK: hashlib.sha256(check).hexdigest()}
        )
        self.pipeline = ScreeningPipeline(
            model,
            segmenter,
            InputCheck.load(check_file, check),
            self.calibration.validated,
            any_source=settings.any_source,
            sixteen_bit_white=self.calibration.sixteen_bit_white,
            keep_datasets=settings.dicom,
        )
        self._healthy = np.array(self.calibration.healthy)
        self._objects = Lock()  # highdicom makes no promise about threads

    @cached_property
    def _identity(self) -> str:
        """Identity of the calibration, computed once: it is a hash of the scores of all calibration images."""
        return self.calibration.identity

    def cases(self, files: Iterable[Path]) -> Iterator[list[Case]]:
        """Screen files.

        Args:
            files: Any files.

        Yields:
            Cases in the order of the files, a batch at a time; their images are written.
        """
        yield from self.pipeline.map(self._case, files)

    def _case(self, result: ImageResult) -> Case:
        header = result.header or Header("")
        facts = {
            "path": path_as_text(result.path),
            **result.fingerprint._asdict(),
            "content": result.content,
            "height": result.height,
            "width": result.width,
            "sixteen_bit_white": self.calibration.sixteen_bit_white,
            "model": self.calibration.model,
            "calibration": self._identity,
            "screened": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "options": row_options(self.settings, self.calibration, header.source),
            **{_CASE_NAMES.get(name, name): value for name, value in header._asdict().items()},
        }
        if not self.settings.names:
            facts |= {"patient_id": "", "patient_name": ""}
        picture, layers = case_images(facts["path"], result.content)
        if result.score is None or result.heat is None or result.lungs is None or result.display is None:
            for name in (picture, *_layer_files(layers)):  # of a former screening, by other options
                (self.settings.output / name).unlink(missing_ok=True)
            refused = Case(decision=Decision.REFUSED, why="; ".join(result.refusals), **facts)
            if self.settings.dicom and result.dataset is not None and refused.is_reported:
                self._write_objects(refused, result)
            return refused
        group = self.calibration.group_of(self.settings.hospital, header.sex, header.age)
        calibrated = self.calibration.thresholds[group]
        # A score that is no number, also before it was clipped, is never below the threshold, and is read first.
        raw_score = result.raw_score if result.raw_score is not None and np.isfinite(result.raw_score) else None
        is_below = raw_score is not None and np.float32(result.score) < np.float32(calibrated.threshold)
        p_value = None if raw_score is None else float(p_values(np.array([raw_score]), self._healthy)[0])
        probability = None if raw_score is None else float(self.calibration.probability(np.array([raw_score]))[0])
        case = Case(
            decision=Decision.BELOW_THRESHOLD if is_below else Decision.TO_READ,
            score=None if np.isnan(result.score) else result.score,
            raw_score=raw_score,
            threshold=calibrated.threshold,
            guarantee=calibrated.guarantee,
            probability=probability,
            p_value=p_value,
            **({} if result.exposure is None else result.exposure._asdict()),
            findings=describe(p_value, result.heat, result.lungs),
            subgroup=group,
            heatmap=picture,
            layers=layers,
            **facts,
        )
        heatmap = draw_heatmap(result.display, result.heat, result.lungs)
        for folder in (HEATMAPS, LAYERS):
            mark_folder(self.settings.output / folder)
        write_png(heatmap, self.settings.output / case.heatmap)
        for layer, name in zip((result.heat, result.lungs), _layer_files(layers), strict=True):
            write_png(layer, self.settings.output / name)
        if self.settings.dicom:
            self._write_objects(case, result, heatmap)
        return case

    def _write_objects(self, case: Case, result: ImageResult, heatmap: np.ndarray | None = None) -> None:
        from anomalib_cxr.screening.worklist.dicom_export import write_dicom_objects  # noqa: PLC0415  # an extra

        with self._objects:
            mark_folder(self.settings.output / OBJECTS)
            write_dicom_objects(case, result.dataset, heatmap, self.settings.output / OBJECTS, result.heat)


def _layer_files(layers: str) -> tuple[str, str]:
    """Return the files of heatmap and lungs alone, by `Case.layers`."""
    return f"{layers}-heat.png", f"{layers}-lungs.png"


def _refuse_exchanged(folder: Path, calibration: Calibration, model: ExportedModel, loaded: dict[str, str]) -> None:
    """Refuse files that were exchanged after the calibration was read: others were loaded than were calibrated."""
    differ = [name for name, digest in loaded.items() if digest != calibration.files.get(name)]
    if model.sha256 != calibration.model:
        differ.insert(0, f"{model.graph.name} with {model.graph.stem}.bin")
    if differ:
        raise ScreeningError(
            f"{', '.join(differ)} in {folder}: exchanged while they were loaded",
            "the files that were calibrated, and that nothing writes to",
            "start again when the calibration or the copy of the model is complete",
        )


Engine = Callable[[Sequence[Path]], Iterator[list[Case]]]
"""Function that screens files and yields their cases in batches, in any order."""


def screen(
    files: Sequence[Path],
    settings: ScreenerSettings,
    calibration: Calibration,
    engine: Engine,
    *,
    left_out: Mapping[str, Sequence[Path]] | None = None,
) -> Worklist:
    """Screen files into a worklist; an interrupted screening is continued.

    Args:
        files: Absolute paths. Files that are in the worklist and have not changed are skipped, unless their row depends
            on an option that was another one.
        settings: Settings of the screener. Without `names`, those that a former screening kept are taken out.
        calibration: Calibration of the model.
        engine: Engine that screens the files with these settings.
        left_out: Files and folders of the inputs that are not screened, by the reason; they are listed in a table.

    Returns:
        The worklist.

    Raises:
        ScreeningError: If another screening or another model writes there, or the folder cannot be written.
    """
    output = settings.output
    try:
        private_folder(output)
        with worklist_lock(output):
            worklist = Worklist(output, create=True)
            worklist.refuse_other_calibration(calibration.identity)
            worklist.keep_reference(calibration.identity, calibration.reference)
            if not settings.names:
                worklist.forget_names()
            write_left_out(output, left_out or {})
            try:
                remaining = unscreened(files, worklist, settings, calibration)
                with Progress() as progress:
                    task = progress.add_task("Screening", total=len(remaining))
                    for cases in engine(remaining):
                        worklist.add(cases)
                        progress.advance(task, len(cases))
            finally:  # after an interruption, too, the tables have all rows of the worklist
                write_tables(worklist, calibration, names=settings.names)
            return worklist
    except OSError as error:
        raise ScreeningError(
            f"{output}: cannot be written ({error})",
            "a folder with enough free space and the right to write",
            "free space and start again: it goes on where it stopped, no row is lost",
        ) from error


def describe_screening(worklist: Worklist, calibration: Calibration) -> str:
    """Describe a worklist: cases by decision, the guarantee of the thresholds, and the notice on scores below one.

    Args:
        worklist: The worklist.
        calibration: Calibration of the model.

    Returns:
        A text of a few lines.
    """
    counts = ", ".join(f"{count} {decision.value}" for decision, count in worklist.counts().items())
    guarantees = dict.fromkeys(threshold.guarantee for threshold in calibration.thresholds.values())
    return "\n".join([counts, *guarantees, BELOW_THRESHOLD_NOTICE])
