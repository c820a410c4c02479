"""Scores of phantoms that a calibration keeps, so that the same model can be tested elsewhere without any X-ray."""

from __future__ import annotations

from pydantic import Field

from .fields import Count, Digest, Positive, RecordPart, Share


class PhantomScore(RecordPart):
    """Score of a phantom.

    Attributes:
        pixels: SHA-256 of its gray levels; another one where other versions of libraries draw it differently.
        score: Anomaly score; None where the checks refused it.
        raw_score: The same before it is clipped to [0, 1].
    """

    pixels: Digest
    score: Share | None
    raw_score: float | None


class PhantomScores(RecordPart):
    """Scores of a set of phantoms, of which the first one is healthy.

    Attributes:
        size: Side of the phantoms in pixels.
        seed: Seed of their drawing.
        scores: Scores in the order of the phantoms.
    """

    size: Positive
    seed: Count
    scores: tuple[PhantomScore, ...] = Field(min_length=1)
