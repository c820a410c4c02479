"""Inference pipeline shared by calibration and screening: reading, input check and exported model."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydicom.dataset import Dataset

from anomalib_cxr.data.reading.content import MAX_BYTES, FileContent, read_content
from anomalib_cxr.data.reading.dicom_file import as_radiograph_error, is_dicom, load_dicom
from anomalib_cxr.data.reading.limits import MAX_PIXELS as MAX_IMAGE_PIXELS
from anomalib_cxr.data.reading.metadata import Header, read_header
from anomalib_cxr.data.reading.radiograph import image_size, read_radiograph
from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.calibration.record import ValidatedRange
from anomalib_cxr.screening.fingerprint import NO_FINGERPRINT, FileFingerprint, fingerprint_of
from anomalib_cxr.segmentation.deployed import ExportedSegmenter, downsample
from anomalib_cxr.segmentation.postprocessing import suppress_outside_lungs
from anomalib_cxr.utils.budget import Budget

from .exposure import Exposure, measure_exposure
from .image_quality import quality_refusals, reduce_for_quality
from .input_check import InputCheck

DISPLAY_SIDE = 512
"""Longer side of an X-ray for display in pixels, at most."""
MAX_BATCH = 8
"""Number of images in a batch, at most."""
WORKERS = 4
"""Number of files that are decoded at the same time, at most; as many decoded ones wait for their batch."""
MAX_PIXELS = 20_000_000
"""Number of pixels at which a batch is full, whatever its number of images; it bounds the memory."""


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
    radiograph: torch.Tensor
    """X-ray in [0, 1], `(1, H, W)`."""
    reduced: torch.Tensor
    """The same at the segmenter's size, `(1, S, S)`."""
    fine: torch.Tensor
    """The same at the size of the input and quality checks, `(1, s, s)`."""


_DecodedFile = tuple[ImageResult, _Decoded | None]  # no image where the file is refused


class ScreeningPipeline:
    """Reads files, refuses invalid X-rays, and scores the others.

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
        self._bytes, self._pixels = Budget(MAX_BYTES), Budget(MAX_IMAGE_PIXELS)

    def __call__(self, files: Iterable[Path]) -> Iterator[list[ImageResult]]:
        """Run the pipeline; files are decoded ahead and in parallel.

        Args:
            files: Any files.

        Yields:
            Results in the order of the files, a batch at a time.
        """
        for batch in _batches(self._decode_ahead(files)):
            yield self._process(batch)

    def _decode_ahead(self, files: Iterable[Path]) -> Iterator[_DecodedFile]:
        """Decode files in threads, in order, no more ahead than there are threads.

        The memory depends on neither the number of processors nor that of files: all files that are read at the same
        time have no more bytes, and all that are decoded no more pixels, than the largest one that is accepted.
        """
        workers = min(WORKERS, os.cpu_count() or 1)
        waiting: deque[Future[_DecodedFile]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            for file in files:
                waiting.append(pool.submit(self._decode, file))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

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
                radiograph = read_radiograph(content, self.sixteen_bit_white)
        except RadiographError as error:
            return replace(result, refusals=(f"not readable as a frontal X-ray: {error.reason}",)), None
        height, width = radiograph.shape[-2:]
        result = replace(result, height=height, width=width, display=display_image(radiograph))
        if self.validated is not None and min(height, width) < self.validated.least_side:
            reason = f"too small: {width} x {height} pixels, validated from {self.validated.least_side}"
            return replace(result, refusals=(reason,)), None
        return result, _Decoded(radiograph, self.segmenter.downsample(radiograph), reduce_for_quality(radiograph))

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
        decoded = [(place, image) for place, (_, image) in enumerate(batch) if image is not None]
        if decoded:
            lungs = self.segmenter(torch.stack([image.reduced for _, image in decoded]))  # (N, S, S)
            for (place, image), probability in zip(decoded, lungs, strict=True):
                refusals = tuple(
                    self.input_check.refusals(image.fine, probability)
                    or quality_refusals(image.radiograph, image.fine, probability)
                )
                exposure = None if refusals else measure_exposure(image.reduced, probability)
                results[place] = replace(
                    results[place], lungs=suppress_outside_lungs(probability), refusals=refusals, exposure=exposure
                )
        accepted = [(place, image.radiograph) for place, image in decoded if not results[place].refusals]
        for _, same_size in groupby(sorted(accepted, key=_shape), key=_shape):
            places, radiographs = zip(*same_size, strict=True)
            scores = self.model(np.stack([radiograph.numpy() for radiograph in radiographs]))
            for place, score, raw_score, label, heat in zip(places, *scores, strict=True):
                results[place] = replace(
                    results[place], score=float(score), raw_score=float(raw_score), label=bool(label), heat=heat
                )
        return results


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


def display_image(radiograph: torch.Tensor) -> np.ndarray:
    """Reduce an X-ray for display.

    Args:
        radiograph: X-ray in [0, 1], `(1, H, W)`.

    Returns:
        The X-ray in [0, 1], `(h, w)`, with at most `DISPLAY_SIDE` pixels a side.
    """
    height, width = radiograph.shape[-2:]
    scale = min(1.0, DISPLAY_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return downsample(radiograph, size)[0].numpy()


def _shape(accepted: tuple[int, torch.Tensor]) -> tuple[int, ...]:
    return tuple(accepted[1].shape)


def _batches(files: Iterable[_DecodedFile]) -> Iterator[list[_DecodedFile]]:
    """Gather files until there are enough of them, or enough pixels."""
    batch: list[_DecodedFile] = []
    pixels = 0
    for result, image in files:
        batch.append((result, image))
        pixels += 0 if image is None else image.radiograph.numel()
        if len(batch) == MAX_BATCH or pixels >= MAX_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
