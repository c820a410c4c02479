"""From files to rows of the worklist, with their pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from pydicom.dataset import Dataset
from rich.progress import Progress

from anomalib_cxr.data.reading.dicom_file import as_radiograph_error, load_dicom
from anomalib_cxr.data.reading.metadata import Header
from anomalib_cxr.deploy.runtime import ExportedModel, graph_of
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.probability import p_values
from anomalib_cxr.screening.calibration.record import GATE, Calibration, read_calibration
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import write_tables
from anomalib_cxr.segmentation.deployed import LUNGS, LungFinder

from .explanation import describe, draw_heatmap, write_picture
from .input_check import Gate
from .pipeline import Look, Station, stamp_of

HEATMAPS, LAYERS, OBJECTS = "heatmaps", "layers", "dicom"


@dataclass(frozen=True)
class ScreenerSettings:
    """What a screener is made with; light, so that workers elsewhere can make one of their own.

    Args:
        model: Folder of the calibrated model.
        output: Folder of the worklist.
        device: OpenVINO's name of the device.
        hospital: Whose threshold holds, where the calibration has one for each hospital.
        any_source: Score X-rays of sources, too, that the model was not validated on.
        dicom: Write a Secondary Capture and a structured report for each scored image, too.
    """

    model: Path
    output: Path
    device: str = "CPU"
    hospital: str = ""
    any_source: bool = False
    dicom: bool = False


class Screener:
    """Screens files with a calibrated model, and writes their pictures.

    Args:
        settings: What it is made with.

    Raises:
        ScreeningError: If the model is not calibrated, something beside it is not what was calibrated, or a hospital is
            needed and unknown.
    """

    def __init__(self, settings: ScreenerSettings) -> None:
        folder = graph_of(settings.model).parent
        self.calibration = read_calibration(folder)
        refuse_hospital(self.calibration, settings.hospital)
        self.settings = settings
        self.station = Station(
            ExportedModel(folder, settings.device),
            LungFinder(folder / LUNGS, settings.device),
            Gate.load(folder / GATE),
            self.calibration.validated,
            any_source=settings.any_source,
        )
        self._healthy = np.array(self.calibration.healthy)

    def cases(self, files: Iterable[Path]) -> Iterator[list[Case]]:
        """Screen files.

        Args:
            files: Any files.

        Yields:
            Cases in the order of the files, a batch at a time; their pictures are written.
        """
        for looks in self.station.look(files):
            yield [self._case(look) for look in looks]

    def _case(self, look: Look) -> Case:
        header = look.header or Header("")
        known = {
            "path": str(look.path),
            "size": look.stamp.size,
            "modified": look.stamp.modified,
            "height": look.height,
            "width": look.width,
            "model": self.calibration.model,
            "screened": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **{name: value for name, value in header._asdict().items() if name != "view_position"},
        }
        if look.score is None or look.heat is None or look.lungs is None or look.picture is None:
            return Case(decision=Decision.REFUSED, why="; ".join(look.refusals), **known)
        group = self.calibration.group_of(self.settings.hospital, header.sex, header.age)
        threshold = self.calibration.rule_out[group].threshold
        ruled_out = np.float32(look.score) < np.float32(threshold)  # what is no number is read
        p_value = float(p_values(np.array([look.score]), self._healthy)[0])
        stem = hashlib.sha256(str(look.path).encode()).hexdigest()[:16]
        case = Case(
            decision=Decision.RULED_OUT if ruled_out else Decision.TO_READ,
            score=look.score,
            threshold=threshold,
            probability=float(self.calibration.probability(np.array([look.score]))[0]),
            p_value=p_value,
            findings=describe(p_value, look.heat, look.lungs),
            subgroup=group,
            heatmap=f"{HEATMAPS}/{stem}.png",
            layers=f"{LAYERS}/{stem}",
            **known,
        )
        self._draw(case, look.picture, look.heat, look.lungs)
        return case

    def _draw(self, case: Case, picture: np.ndarray, heat: np.ndarray, lungs: np.ndarray) -> None:
        heatmap = draw_heatmap(picture, heat, lungs)
        write_picture(heatmap, self.settings.output / case.heatmap)
        write_picture(heat, self.settings.output / f"{case.layers}-heat.png")
        write_picture(lungs, self.settings.output / f"{case.layers}-lungs.png")
        if self.settings.dicom:
            from anomalib_cxr.screening.worklist.dicom_export import write_dicom_objects  # noqa: PLC0415  # an extra that not everyone has

            write_dicom_objects(case, dataset_of(case), heatmap, self.settings.output / OBJECTS)


def refuse_hospital(calibration: Calibration, hospital: str) -> None:
    """Refuse a hospital that has no threshold, and none where each has its own.

    Raises:
        ScreeningError: If it is so.
    """
    known = list(calibration.rule_out)
    if calibration.grouping == "hospital" and hospital not in known:
        raise ScreeningError(
            f"hospital {hospital!r}", f"one of {', '.join(known)}, which the calibration knows", "give it by --hospital"
        )


def dataset_of(case: Case) -> Dataset | None:
    """Read a DICOM file; None for a picture."""
    if not case.sop_uid:
        return None
    path = Path(case.path)
    with as_radiograph_error(path, "not readable as DICOM"):
        return load_dicom(path)


LOCK = ".screening.lock"
Engine = Callable[[Sequence[Path]], Iterator[list[Case]]]
"""Screens files, and yields their cases in batches, in any order."""


def screen(
    files: Sequence[Path], output: Path, calibration: Calibration, engine: Engine, *, names: bool = False
) -> Worklist:
    """Screen files into a worklist; goes on where it was stopped.

    Args:
        files: Absolute paths. Those that are in the list already, and were not changed since, are left alone.
        output: Folder of the worklist.
        calibration: Of the model.
        engine: What does the work.
        names: Tell patients' names and IDs in the tables.

    Raises:
        ScreeningError: If another screening writes there, or another model did, or it cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / LOCK, timeout=0):
            worklist = Worklist(output, create=True)
            refuse_other_model(worklist, calibration)
            try:
                _add(worklist, engine, unscreened(files, worklist))
            finally:  # also after an interruption: what is in the list is in the tables
                write_tables(worklist, calibration, names=names)
            return worklist
    except Timeout as error:
        raise ScreeningError(
            f"{output}: another screening writes there", "one at a time", "wait for it, or choose another --output"
        ) from error
    except OSError as error:
        raise ScreeningError(
            f"{output}: cannot be written ({error})",
            "a place with enough free space and the right to write",
            "free space and start again: it goes on where it stopped, no row is lost",
        ) from error


def refuse_other_model(worklist: Worklist, calibration: Calibration) -> None:
    """Refuse to put the rows of two models into one list.

    Raises:
        ScreeningError: If there are rows of another model.
    """
    others = worklist.models() - {calibration.model}
    if others:
        raise ScreeningError(
            f"{worklist.file}: rows of another model or calibration, {', '.join(sorted(each[:12] for each in others))}",
            f"rows of {calibration.model[:12]} only",
            "choose another --output",
        )


def unscreened(files: Iterable[Path], worklist: Worklist) -> list[Path]:
    """Return the files that are not in the list, or were changed since they were screened."""
    known = worklist.stamps()
    return [file for file in files if known.get(str(file)) != tuple(stamp_of(file))]


def _add(worklist: Worklist, engine: Engine, files: Sequence[Path]) -> None:
    with Progress() as progress:
        task = progress.add_task("Screening", total=len(files))
        for cases in engine(files):
            worklist.add(cases)
            progress.advance(task, len(cases))
