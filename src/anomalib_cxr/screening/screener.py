"""From files to rows of the worklist, with their pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from anomalib_cxr.data.dicom_file import explained, load_dicom
from anomalib_cxr.data.header import Header
from anomalib_cxr.errors import ScreeningError

from .case import Case, Decision
from .exported import ExportedModel, graph_of
from .gate import Gate
from .lungs import LUNGS, LungFinder
from .pictures import draw_heatmap, write_picture
from .probability import p_values
from .record import GATE, Calibration, read_calibration
from .station import Look, Station
from .words import describe

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
            from .dicom_objects import write_dicom_objects  # noqa: PLC0415  # an extra that not everyone has

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
    with explained(path, "not readable as DICOM"):
        return load_dicom(path)
