"""Inference pipeline shared by calibration and screening: reading, input check and exported model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from anomalib_cxr.data.reading.content import MAX_BYTES, FileContent, read_content
from anomalib_cxr.data.reading.dicom_file import as_radiograph_error, is_dicom, load_dicom
from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.data.reading.intensities import image_size, read_intensities
from anomalib_cxr.data.reading.limits import MAX_PIXELS as MAX_IMAGE_PIXELS
from anomalib_cxr.data.reading.metadata import Header, read_header
from anomalib_cxr.deploy.inference import MAX_BATCH, thread_count
from anomalib_cxr.deploy.runtime import ExportedModel, Scores
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.calibration.record import ValidatedRange
from anomalib_cxr.screening.fingerprint import NO_FINGERPRINT, FileFingerprint, fingerprint_of
from anomalib_cxr.segmentation.deployed import ExportedSegmenter
from anomalib_cxr.segmentation.postprocessing import LungMask, find_lungs, suppress_outside_lungs
from anomalib_cxr.utils.budget import Budget
from anomalib_cxr.utils.threads import in_order

from .exposure import Exposure, measure_exposure
from .image_quality import quality_refusals, quality_side
from .input_check import InputCheck

DISPLAY_SIDE = 512
"""Longer side of an X-ray for display in pixels, at most."""
MAX_PIXELS = 20_000_000
"""Number of pixels at which a batch is full, whatever its number of images; it bounds the memory."""
Image = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class ImageResult:
    """Result of the pipeline for one file; None for what a refusal left unknown.

    Attributes:
        path: The file.
        fingerprint: Fingerprint of the file as it was read; none where it could not be read.
        content: SHA-256 of the bytes that all else is computed from; empty where they could not be read.
        header: Facts beside the pixels.
        dataset: The DICOM attributes but the pixels, where they are to be kept and can be read.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        refusals: Reasons why it was not scored; empty where it was.
        display: X-ray for display in [0, 1], `(h, w)`, at most `DISPLAY_SIDE` pixels a side.
        lungs: Lung probability, `(S, S)`, 0 outside of the two lungs.
        score: Anomaly score in [0, 1].
        raw_score: The same before it is clamped to [0, 1].
        label: Label of the exported graph: at or above its threshold.
        heat: Anomaly map in [0, 1], `(S, S)`.
        exposure: Exposure of an image that was scored.
    """

    path: Path
    fingerprint: FileFingerprint = NO_FINGERPRINT
    content: str = ""
    header: Header | None = None
    dataset: Dataset | None = None
    height: int | None = None
    width: int | None = None
    refusals: tuple[str, ...] = ()
    display: np.ndarray | None = None
    lungs: np.ndarray | None = None
    score: float | None = None
    raw_score: float | None = None
    label: bool | None = None
    heat: np.ndarray | None = None
    exposure: Exposure | None = None


class _Decoded(NamedTuple):
    image: Image
    """X-ray in [0, 1] for the model, `(H, W)`, of the model's size unless it takes any."""
    reduced: Image
    """The same at the segmenter's size, `(S, S)`."""
    fine: Image
    """The same at the size of the input and quality checks, `(s, s)`."""
    size: tuple[int, int]
    """Height and width of the X-ray in pixels."""


_DecodedFile = tuple[ImageResult, _Decoded | None]  # no image where the file is refused


class ScreeningPipeline:
    """Reads files, refuses invalid X-rays, and scores the others.

    Threads decode files ahead, and others check and score batches of them. The memory depends on neither the number of
    processors nor that of files: all files that are read at the same time have no more bytes, and all that are decoded
    no more pixels, than the largest one that is accepted, and they are reduced at once to the size of the model. (Of a
    model for any size whole images are kept, a batch at a time.)

    Args:
        model: Exported model.
        segmenter: Exported lung segmenter.
        input_check: Input check.
        validated: Range of the calibration images; None accepts any, as while calibrating.
        any_source: Accept sources outside of this range.
        sixteen_bit_white: White of 16-bit images, as in the calibration.
        keep_datasets: Keep the DICOM attributes of images in their results.
    """

    def __init__(
        self,
        model: ExportedModel,
        segmenter: ExportedSegmenter,
        input_check: InputCheck,
        validated: ValidatedRange | None = None,
        *,
        any_source: bool = False,
        sixteen_bit_white: int | None = None,
        keep_datasets: bool = False,
    ) -> None:
        self.model = model
        self.segmenter = segmenter
        self.input_check = input_check
        self.validated = validated
        self.any_source = any_source
        self.sixteen_bit_white = sixteen_bit_white
        self.keep_datasets = keep_datasets
        self._model_side = model.side if model.reduces else None
        self._threads = thread_count() if model.reduces else 1  # that check and score; else images are large
        # The model then finds the same lungs by the same network: once is enough.
        self._has_lungs = model.reduces and segmenter.weights == model.segmenter_weights != ""
        self._bytes, self._pixels = Budget(MAX_BYTES), Budget(MAX_IMAGE_PIXELS)

    def __call__(self, files: Iterable[Path]) -> Iterator[list[ImageResult]]:
        """Run the pipeline.

        Args:
            files: Any files.

        Yields:
            Results in the order of the files, a batch at a time.
        """
        return self.map(lambda result: result, files)

    def map(self, finish: Callable[[ImageResult], T], files: Iterable[Path]) -> Iterator[list[T]]:
        """Run the pipeline, and finish the results in its threads.

        Args:
            finish: Function of a result, which several threads call at the same time.
            files: Any files.

        Yields:
            What it returned, in the order of the files, a batch at a time.
        """

        def process(batch: list[_DecodedFile]) -> list[T]:
            return [finish(result) for result in self._process(batch)]

        decoded = in_order(self._decode, files, thread_count())
        yield from in_order(process, _batches(decoded), self._threads)

    def _decode(self, path: Path) -> _DecodedFile:
        """Read a file once: header, pixels and hash are those of the same bytes."""
        with self._bytes.reserve(_size_of(path)):
            return self._decode_content(path)

    def _decode_content(self, path: Path) -> _DecodedFile:
        result = ImageResult(path)
        try:
            content = read_content(path)
            result = replace(result, fingerprint=fingerprint_of(content), content=content.sha256)
            header = read_header(content)
            dataset = _dataset_of(content) if self.keep_datasets else None
            result = replace(result, header=header, dataset=dataset, refusals=self._outside_range(header))
            if result.refusals:
                return result, None
            with self._pixels.reserve(math.prod(image_size(content))):
                radiograph = read_intensities(content, self.sixteen_bit_white)
        except RadiographError as error:
            return replace(result, refusals=(f"not readable as a frontal X-ray: {error.reason}",)), None
        height, width = radiograph.shape
        result = replace(result, height=height, width=width, display=display_image(radiograph))
        if self.validated is not None and min(height, width) < self.validated.least_side:
            reason = f"too small: {width} x {height} pixels, validated from {self.validated.least_side}"
            return replace(result, refusals=(reason,)), None
        return result, self._reduce(radiograph)

    def _reduce(self, radiograph: Image) -> _Decoded:
        """Reduce an X-ray to what model, segmenter and checks look at, once for each size."""
        height, width = radiograph.shape
        of_side = cache(lambda side: downsample(radiograph, (side, side)))
        return _Decoded(
            image=radiograph if self._model_side is None else of_side(self._model_side),
            reduced=of_side(self.segmenter.side),
            fine=of_side(quality_side(height, width)),
            size=(height, width),
        )

    def _outside_range(self, header: Header) -> tuple[str, ...]:
        """Return the reasons why the header alone is outside of the validated range."""
        if self.validated is None:
            return ()
        reasons = []
        if not self.any_source and header.source not in self.validated.sources:
            reasons.append(f"never validated on this kind of source: {header.source}")
        ages = self.validated.ages
        if header.age is not None and ages is not None and not ages[0] <= header.age <= ages[1]:
            reasons.append(f"age {header.age:.0f} outside the validated {ages[0]:.0f} to {ages[1]:.0f} years")
        return tuple(reasons)

    def _process(self, batch: Sequence[_DecodedFile]) -> list[ImageResult]:
        """Segment the lungs, check the input, and score the images that pass; refused ones stay as they are."""
        results = [result for result, _ in batch]
        decoded = {place: image for place, (_, image) in enumerate(batch) if image is not None}
        if not decoded:
            return results
        scores = self._score(decoded) if self._has_lungs else {}
        probabilities = {place: score.lungs for place, score in scores.items() if score.lungs is not None}
        probabilities = probabilities or self._segment(decoded)
        masks = {place: find_lungs(probability) for place, probability in probabilities.items()}
        for place, refusals in self._refusals(decoded, masks).items():
            exposure = None if refusals else measure_exposure(decoded[place].reduced, probabilities[place])
            lungs = suppress_outside_lungs(probabilities[place], masks[place])
            results[place] = replace(results[place], lungs=lungs, refusals=refusals, exposure=exposure)
        accepted = {place: image for place, image in decoded.items() if not results[place].refusals}
        scores = scores or self._score(accepted)
        for place in accepted:
            score, raw_score, label, heat, _ = scores[place]
            results[place] = replace(
                results[place], score=float(score), raw_score=float(raw_score), label=bool(label), heat=heat
            )
        return results

    def _segment(self, decoded: Mapping[int, _Decoded]) -> dict[int, np.ndarray]:
        probabilities = self.segmenter(np.stack([image.reduced for image in decoded.values()]))  # (N, S, S)
        return dict(zip(decoded, probabilities, strict=True))

    def _score(self, decoded: Mapping[int, _Decoded]) -> dict[int, Scores]:
        """Score images, those of one size at once."""
        scores: dict[int, Scores] = {}
        for _, same_size in groupby(sorted(decoded.items(), key=_shape), key=_shape):
            places, images = zip(*same_size, strict=True)
            found = self.model(np.stack([image.image for image in images])[:, None])
            scores |= {place: found.of_image(number) for number, place in enumerate(places)}
        return scores

    def _refusals(self, decoded: Mapping[int, _Decoded], lungs: Mapping[int, LungMask]) -> dict[int, tuple[str, ...]]:
        """Return the reasons to refuse each image."""
        thumbnails = np.stack([self.input_check.reduce(image.fine) for image in decoded.values()])
        probabilities = self.input_check.probabilities_of_thumbnails(thumbnails)
        return {
            place: tuple(
                self.input_check.refusals(image.fine, lungs[place], kinds)
                or quality_refusals(image.size, image.fine, lungs[place])
            )
            for (place, image), kinds in zip(decoded.items(), probabilities, strict=True)
        }


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return 0


def _dataset_of(content: FileContent) -> Dataset | None:
    if not is_dicom(content):
        return None
    with as_radiograph_error(content.path, "not readable as DICOM"):
        return load_dicom(content, pixels=False)


def display_image(radiograph: Image) -> Image:
    """Reduce an X-ray for display.

    Args:
        radiograph: X-ray in [0, 1], `(H, W)`.

    Returns:
        The X-ray in [0, 1], `(h, w)`, with at most `DISPLAY_SIDE` pixels a side.
    """
    height, width = radiograph.shape
    scale = min(1.0, DISPLAY_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return downsample(radiograph, size)


def _shape(decoded: tuple[int, _Decoded]) -> tuple[int, ...]:
    return tuple(decoded[1].image.shape)


def _batches(files: Iterable[_DecodedFile]) -> Iterator[list[_DecodedFile]]:
    """Gather files until there are enough of them, or enough pixels."""
    batch: list[_DecodedFile] = []
    pixels = 0
    for result, image in files:
        batch.append((result, image))
        pixels += 0 if image is None else image.image.size
        if len(batch) == MAX_BATCH or pixels >= MAX_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
