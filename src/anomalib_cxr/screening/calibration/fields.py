"""Types of the numbers in a calibration record: read from a file, each is checked against its range."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ROUNDING = 1e-9
"""Difference that two numbers may have by their last digits alone."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""
InnerShare = Annotated[float, Field(gt=0, lt=1)]
"""A number in (0, 1)."""
Count = Annotated[int, Field(ge=0)]
"""A number of images or patients."""
Positive = Annotated[int, Field(ge=1)]
"""A number of which there is at least one."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256, hexadecimal."""


class RecordPart(BaseModel):
    """Part of a record: read-only, without unknown fields, and without numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
