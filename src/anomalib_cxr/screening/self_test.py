"""Self-test of a calibrated model: phantoms through the whole chain, with the scores that the calibration kept."""

from __future__ import annotations

import hashlib
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from pydicom import dcmread

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import IMAGES, write_phantoms
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.phantom_scores import PhantomScore, PhantomScores
from anomalib_cxr.screening.calibration.record import read_calibration
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.pipeline.pipeline import ScreeningPipeline
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings, screen
from anomalib_cxr.screening.worklist.tables import CSV, JSON

logger = logging.getLogger(__name__)

SEED, N_NORMAL, N_SICK = 2026, 1, 2
"""Phantoms of the test."""
SIDE, LARGEST = 256, 2048
"""Side of the phantoms in pixels, at least and at most; as large as the model needs."""
TOLERANCE = 0.001
"""Difference of a score to that of the calibration that another machine may make."""
TIMED = 5.0
"""Time in seconds for which images are scored to measure how long one takes, at least."""


@dataclass(frozen=True)
class SelfTestResult:
    """Result of a self-test that passed.

    Attributes:
        n_scored: Number of phantoms that were scored, each as PNG and as DICOM.
        n_refused: Number that the checks refused, as in the calibration.
        difference: Largest difference of a raw score to that of the calibration; 0 where all were refused.
        seconds: Median time of an image of this size, reading and heatmap included.
        size: Side of the phantoms in pixels.
        is_same_drawing: Whether all phantoms were drawn as in the calibration, to the last gray level.
    """

    n_scored: int
    n_refused: int
    difference: float
    seconds: float
    size: int
    is_same_drawing: bool

    def __str__(self) -> str:
        drawing = "" if self.is_same_drawing else " Other versions of libraries draw the phantoms slightly differently."
        return (
            f"Passed: {self.n_scored} phantoms scored as in the calibration, as PNG and DICOM, to "
            f"{self.difference:.1g}; {self.n_refused} refused, as there.{drawing}\n"
            f"{self.seconds:.2f} s an image of {self.size} pixels, with reading, checks and heatmap."
        )


def score_phantoms(pipeline: ScreeningPipeline, least_side: int) -> PhantomScores:
    """Score the phantoms of the self-test, for the record of a calibration.

    Args:
        pipeline: Pipeline of the model.
        least_side: Shorter side in pixels that an image needs.
    """
    size = min(max(SIDE, least_side), LARGEST)
    with TemporaryDirectory() as folder:
        files = _draw(Path(folder), size, SEED)
        results = [result for batch in pipeline(files) for result in batch]
        scores = tuple(
            PhantomScore(pixels=_pixels(file), score=result.score, raw_score=result.raw_score)
            for file, result in zip(files, results, strict=True)
        )
    return PhantomScores(size=size, seed=SEED, scores=scores)


def run_self_test(model: Path, device: str = "CPU") -> SelfTestResult:
    """Screen phantoms as X-rays are screened, and compare their scores with those of the calibration.

    Args:
        model: Folder of a calibrated model.
        device: OpenVINO device.

    Returns:
        The result.

    Raises:
        ScreeningError: If the model cannot be used, or anything is not as it was in the calibration; names all of it.
    """
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        screener = Screener(ScreenerSettings(model, folder / "worklist", device, _hospital_of(model), any_source=True))
        known = screener.calibration.phantoms
        files = _draw(folder / "phantoms", known.size, known.seed)
        same = [_pixels(file) == score.pixels for file, score in zip(files, known.scores, strict=True)]
        copies = _as_dicom(folder / "phantoms")
        worklist = screen([*files, *copies], screener.settings, screener.calibration, screener.cases)
        cases = {case.path: case for case in worklist.cases()}
        problems = [problem for each in (files, copies) for problem in _differences(cases, each, known)]
        problems += _missing(worklist.folder, list(cases.values()))
        if problems:
            raise ScreeningError(
                f"self-test of {model} failed:\n    " + "\n    ".join(problems),
                f"the scores that the calibration kept, to {TOLERANCE:g}, and all files of the worklist",
                "do not screen with this installation; install the versions in screening.json, or another device",
            )
        scored = [score for score in known.scores if score.score is not None]
        return SelfTestResult(
            n_scored=len(scored),
            n_refused=len(known.scores) - len(scored),
            difference=max(
                (_difference(cases[str(file)], score) for file, score in _scored(files, known)), default=0.0
            ),
            seconds=_time(screener, files),
            size=known.size,
            is_same_drawing=all(same),
        )


def _hospital_of(model: Path) -> str:
    """Return a hospital that has a threshold, where each has its own."""
    calibration = read_calibration(model)
    return next(iter(calibration.thresholds)) if calibration.grouping == "hospital" else ""


def _draw(folder: Path, size: int, seed: int) -> list[Path]:
    write_phantoms(folder, n_normal=N_NORMAL, n_sick=N_SICK, size=size, seed=seed)
    return sorted((folder / IMAGES).iterdir())


def _as_dicom(root: Path) -> list[Path]:
    """Write the phantoms as DICOM, without the age, which the model may not be validated for."""
    files = sorted(write_phantom_dicom(root).rglob("IM*"))
    for file in files:
        dataset = dcmread(file)
        del dataset.PatientAge
        dataset.save_as(file, enforce_file_format=True)
    return files


def _pixels(file: Path) -> str:
    return hashlib.sha256(np.asarray(Image.open(file)).tobytes()).hexdigest()


def _scored(files: Sequence[Path], known: PhantomScores) -> list[tuple[Path, PhantomScore]]:
    return [pair for pair in zip(files, known.scores, strict=True) if pair[1].score is not None]


def _difference(case: Case, score: PhantomScore) -> float:
    pairs = ((case.score, score.score), (case.raw_score, score.raw_score))
    return max(abs(found - expected) for found, expected in pairs if found is not None and expected is not None)


def _differences(cases: dict[str, Case], files: Sequence[Path], known: PhantomScores) -> list[str]:
    problems = []
    for file, score in zip(files, known.scores, strict=True):
        case = cases[str(file)]
        name = f"{file.name} ({'DICOM' if file.suffix == '' else 'PNG'})"
        if (case.decision is Decision.REFUSED) != (score.score is None):
            found = case.decision_text if case.score is None else f"score {case.score:.6f}"
            problems.append(f"{name}: {found}, in the calibration {_text(score)}")
        elif score.score is not None and _difference(case, score) > TOLERANCE:
            problems.append(
                f"{name}: score {case.score:.6f}, before clipping {case.raw_score}, in the calibration {_text(score)}"
            )
    return problems


def _text(score: PhantomScore) -> str:
    return "refused" if score.score is None else f"{score.score:.6f}, before clipping {score.raw_score}"


def _missing(folder: Path, cases: list[Case]) -> list[str]:
    """Return the files that a screening writes and that are not there."""
    images = [
        name
        for case in cases
        if case.decision is not Decision.REFUSED
        for name in (case.heatmap, f"{case.layers}-heat.png", f"{case.layers}-lungs.png")
    ]
    return [f"{name} is missing" for name in (CSV, JSON, *images) if not (folder / name).is_file()]


def _time(screener: Screener, files: Sequence[Path]) -> float:
    """Measure the time of an image."""
    times: list[float] = []
    while sum(times) < TIMED:
        start = time.perf_counter()
        n = sum(len(cases) for cases in screener.cases(files))
        times.append(time.perf_counter() - start)
    return statistics.median(times) / n
