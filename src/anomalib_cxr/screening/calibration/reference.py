"""Reference of a calibration: what its images were like, to tell whether those that come in later are alike."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .fields import Count, InnerShare, RecordPart, Share

_Contrast = Annotated[float, Field(ge=-1, le=1)]


class Reference(RecordPart):
    """Scores, exposure, machine and view of the calibration images that were scored, one entry an image.

    Attributes:
        is_sick: Labels.
        score: Anomaly scores.
        is_below: Whether the score is below the threshold of the image's group.
        lung_gray: Mean gray value in the lungs.
        tissue_contrast: Gray value of bright tissue minus that of the lungs.
        machine: Kinds of source, as `Case.source`.
        view: View positions; empty where unknown.
        refused_normal: Number of further normal images, which the input check refused.
        refused_sick: Number of further sick images, which it refused.
        prevalence: Share of sick people among those who are screened, in (0, 1), as the calibration was told.
        sensitivity: Share of the sick that the guarantee puts at or above the threshold.
    """

    is_sick: tuple[bool, ...] = Field(min_length=1)
    score: tuple[Share, ...]
    is_below: tuple[bool, ...]
    lung_gray: tuple[Share, ...]
    tissue_contrast: tuple[_Contrast, ...]
    machine: tuple[str, ...]
    view: tuple[str, ...]
    refused_normal: Count
    refused_sick: Count
    prevalence: InnerShare
    sensitivity: InnerShare

    @model_validator(mode="after")
    def _check_lengths(self) -> Reference:
        columns = {
            "score": self.score,
            "is_below": self.is_below,
            "lung_gray": self.lung_gray,
            "tissue_contrast": self.tissue_contrast,
            "machine": self.machine,
            "view": self.view,
        }
        wrong = {name: len(column) for name, column in columns.items() if len(column) != len(self.is_sick)}
        if wrong:
            raise ValueError(f"{len(self.is_sick)} labels, but {wrong}")
        if all(self.is_sick) or not any(self.is_sick):
            raise ValueError("images of one label only")
        return self
