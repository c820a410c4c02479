"""What screening says of one X-ray."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

NOTICE = "For research, not a medical device. Not for decisions about patients."
"""What stands on everything that a screening writes or shows."""


class Decision(str, Enum):
    """What is to become of an X-ray."""

    RULED_OUT = "normal, ruled out"
    TO_READ = "to be read"
    REFUSED = "refused"


class Verdict(str, Enum):
    """What a reader says of an X-ray."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Case:
    """One screened X-ray, as the worklist keeps it.

    Attributes:
        path: The file, absolute.
        size: Of the file in bytes, and
        modified: when it was changed (ns): a file that differs in either is screened anew.
        decision: What is to become of it.
        why: Why it was refused; empty otherwise.
        score: As the exported model gives it, in [0, 1]; None where refused.
        threshold: The least score that is to be read, in its group; None where refused.
        probability: Of disease at the prevalence of the calibration, in [0, 1]; None where refused.
        p_value: Share of healthy images that score as high, in (0, 1]; None where refused.
        findings: The reasons, in words.
        subgroup: Group whose threshold holds; empty where there is one for all.
        source: Kind of source, such as `picture` or `DICOM DX, ACME X-100`.
        study_uid: DICOM Study Instance UID; empty for other files.
        sop_uid: DICOM SOP Instance UID; empty for other files.
        patient_id: DICOM Patient ID; written into tables only where asked for.
        patient_name: DICOM Patient's Name; written into tables only where asked for.
        sex: `M`, `F`, or empty.
        age: In years, or None.
        height: Of the image in pixels, or None where it cannot be read.
        width: The same.
        heatmap: Picture of where to look, relative to the folder of the worklist; empty where there is none.
        layers: Stem of the heat `<stem>-heat.png` and the lungs `<stem>-lungs.png`, 8-bit gray; empty where there are
            none.
        model: SHA-256 of the exported model.
        screened: When, UTC, ISO 8601.
    """

    path: str
    size: int
    modified: int
    decision: Decision
    why: str = ""
    score: float | None = None
    threshold: float | None = None
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
    heatmap: str = ""
    layers: str = ""
    model: str = ""
    screened: str = ""

    @property
    def decision_text(self) -> str:
        """Return the decision as tables have it, with the reason of a refusal."""
        return f"{self.decision.value}: {self.why}" if self.why else self.decision.value
