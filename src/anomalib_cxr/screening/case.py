"""A screened X-ray, the verdicts on it, and the notices that stand wherever it is shown."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from anomalib_cxr.utils.path_text import text_as_path

from .fingerprint import FileFingerprint

NOTICE = "For research, not a medical device. Not for decisions about patients."
"""Notice on everything that a screening writes or shows."""
SHORT_NOTICE = "For research. Not a medical device."
"""Notice where there is little room, such as in the pixels of a picture."""
BELOW_THRESHOLD_NOTICE = (
    "A score below the threshold does not exclude disease. Ruling out is for research: sorting out X-rays that no "
    "person reads is outside of what this software is for."
)
"""Notice beside every decision or count that rests on the calibrated threshold."""
NOT_SCORED_NOTICE = "This X-ray was not scored. That says nothing about disease: it is to be read like any other."
"""Notice beside a refusal, where no table of the worklist says what it means."""


PURGED = "purged:"
"""Beginning of `Case.path` after a purge; the number of the case follows."""
REPORTED_SOURCES = tuple(f"DICOM {modality}," for modality in ("CR", "DX", "RG", "unknown"))
"""Beginnings of `Case.source` of X-rays, of which a refusal is reported as DICOM objects, too."""
HEATMAPS, LAYERS = "heatmaps", "layers"
"""Subfolders of the worklist for the images of the cases."""


class Decision(str, Enum):
    """Outcome of the screening of an X-ray."""

    BELOW_THRESHOLD = "below the calibrated threshold"
    TO_READ = "to be read"
    REFUSED = "refused"


class Verdict(str, Enum):
    """Reading of an X-ray by a person."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Case:
    """One screened X-ray, a row of the worklist: the content of a file at a path.

    Attributes:
        path: The file, absolute and as the user named it, as printable text
            (:func:`anomalib_cxr.utils.path_text.path_as_text`); `file` is the path to open.
        size: Size of the file in bytes; as the next, a part of its fingerprint.
        modified: Time of its last change, in ns.
        decision: Outcome of the screening.
        why: Reason of a refusal; empty otherwise.
        score: Anomaly score of the exported model, in [0, 1]; None where refused or no number.
        raw_score: Score before it is clipped to [0, 1], by which cases are ranked; None where refused or not finite.
        threshold: Calibrated threshold of the subgroup: scores from it upwards are to be read; None where refused.
        guarantee: Share of sick people that may be below the threshold, as a sentence; empty where refused.
        probability: Probability of disease by the raw score, at the prevalence of the calibration, in [0, 1]; None
            where that score is.
        p_value: Share of healthy images whose raw score is as high, in (0, 1]; None where that score is.
        findings: Explanation of the score in sentences.
        subgroup: Group whose threshold holds; empty where there is one for all.
        source: Kind of source, such as `picture` or `DICOM DX, ACME X-100`.
        study_uid: DICOM Study Instance UID; empty for other files.
        sop_uid: DICOM SOP Instance UID; empty for other files.
        patient_id: DICOM Patient ID; empty unless names were asked for, as the next.
        patient_name: DICOM Patient's Name.
        sex: `M`, `F`, or empty.
        age: Age in years, or None.
        height: Height of the image in pixels, or None where it cannot be read.
        sixteen_bit_white: White of 16-bit images, as the file was read; None for the reader's default.
        width: Width of the image in pixels, or None where it cannot be read.
        heatmap: Heatmap over the X-ray, relative to the folder of the worklist; empty where there is none.
        layers: Stem of the heatmap alone, `<stem>-heat.png`, and of the lungs, `<stem>-lungs.png`, 8-bit gray; empty
            where there are none.
        model: SHA-256 of the exported model.
        calibration: SHA-256 of the calibration record, its `identity`.
        screened: Time of the screening, UTC, ISO 8601.
        content: SHA-256 of the file as it was scored; empty where it could not be read. Path and content are the
            identity of a case, to which verdicts belong.
        changed: Time of the last change of the file's content, name or rights, in ns.
        sample: Digest of samples of the file.
        options: Names of the options of the screening that the row depends on, separated by spaces.
        view: DICOM View Position, such as `PA`; empty where it is not stated.
        taken: DICOM Study Date as `2026-01-31`; empty where it is not stated.
        lung_gray: Mean gray value in the lungs, in [0, 1]; None where refused. It and the next tell the exposure
            (:mod:`anomalib_cxr.screening.pipeline.exposure`).
        tissue_contrast: Gray value of bright tissue minus that of the lungs, in [-1, 1]; None where refused.
        superseded: Time from which the path has another content in the worklist, UTC, ISO 8601; empty for a current
            case. The lists have current cases only.
    """

    path: str
    size: int
    modified: int
    decision: Decision
    why: str = ""
    score: float | None = None
    raw_score: float | None = None
    threshold: float | None = None
    guarantee: str = ""
    probability: float | None = None
    p_value: float | None = None
    findings: str = ""
    subgroup: str = ""
    source: str = ""
    study_uid: str = ""
    sop_uid: str = ""
    patient_id: str = ""
    patient_name: str = ""
    sex: str = ""
    age: float | None = None
    height: int | None = None
    width: int | None = None
    sixteen_bit_white: int | None = None
    heatmap: str = ""
    layers: str = ""
    model: str = ""
    calibration: str = ""
    screened: str = ""
    content: str = ""
    changed: int = 0
    sample: str = ""
    options: str = ""
    view: str = ""
    taken: str = ""
    lung_gray: float | None = None
    tissue_contrast: float | None = None
    superseded: str = ""

    @property
    def file(self) -> Path:
        """The file to open; its name may be no valid text."""
        return text_as_path(self.path)

    @property
    def fingerprint(self) -> FileFingerprint:
        """Fingerprint of the file when it was screened."""
        return FileFingerprint(self.size, self.modified, self.changed, self.sample)

    @property
    def is_purged(self) -> bool:
        """True if a purge erased what told the patient."""
        return self.path.startswith(PURGED)

    @property
    def is_reported(self) -> bool:
        """True if DICOM objects tell of the case: it was scored, or is an X-ray by its header.

        Other objects that a node is sent are refused without an answer: results of programs, also its own, are among
        them, and two nodes that answer each other would never end.
        """
        return self.decision is not Decision.REFUSED or self.source.startswith(REPORTED_SOURCES)

    @property
    def decision_text(self) -> str:
        """Decision as the tables have it, with the reason of a refusal."""
        return f"{self.decision.value}: {self.why}" if self.why else self.decision.value


def case_images(path: str, content: str) -> tuple[str, str]:
    """Return where a screening writes the images of a case: each content of each path has its own.

    Args:
        path: `Case.path`.
        content: `Case.content`.

    Returns:
        `Case.heatmap` and `Case.layers`.

    Example:
        >>> case_images("/a.png", "ba7816bf")
        ('heatmaps/770d5f3b3ad01e60.png', 'layers/770d5f3b3ad01e60')
    """
    stem = hashlib.sha256(f"{path}\n{content}".encode()).hexdigest()[:16]
    return f"{HEATMAPS}/{stem}.png", f"{LAYERS}/{stem}"


class VerdictRecord(NamedTuple):
    """Verdict of a reader on a case."""

    case_id: int
    """Number of the case."""
    verdict: Verdict
    note: str
    """Note of the reader; may be empty."""
    reader: str
    """Name of the reader."""
    given_at: str
    """Time of the verdict, UTC, ISO 8601."""


class Agreement(NamedTuple):
    """Number of verdicts of a kind on cases with a decision; of each case and reader the last verdict counts."""

    decision: Decision
    verdict: Verdict
    cases: int
