"""What stands at the edge: reading, gate and exported model, one step for calibration and screening alike."""

from __future__ import annotations

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

from anomalib_cxr.data.reading.metadata import Header, read_header
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.calibration.record import Validated
from anomalib_cxr.segmentation.deployed import LungFinder, reduce
from anomalib_cxr.segmentation.postprocessing import only_lungs

from .input_check import Gate

PICTURE_SIDE = 512
"""Longer side of a picture for people, in pixels, at most."""
MOST_IN_BATCH = 8
MOST_PIXELS = 20_000_000
"""Of a batch; one image may have more. It bounds the memory, whatever the images' size."""


class Stamp(NamedTuple):
    """What tells that a file was changed."""

    size: int
    modified: int
    """In ns."""


@dataclass(frozen=True)
class Look:
    """What was seen of one file; what a refusal left unknown is None.

    Args:
        path: The file.
        stamp: Of the file when it was read.
        header: Facts beside the pixels.
        height: Of the image in pixels.
        width: The same.
        refusals: Why it is not scored; empty where it is.
        picture: The X-ray for people, in [0, 1], `(h, w)`, at most `PICTURE_SIDE` pixels.
        lungs: Probability of lung, `(S, S)`, 0 beyond the two lungs.
        score: In [0, 1].
        label: The label of the exported graph: to be read.
        heat: Where it is unusual, in [0, 1], `(S, S)`.
    """

    path: Path
    stamp: Stamp
    header: Header | None = None
    height: int | None = None
    width: int | None = None
    refusals: tuple[str, ...] = ()
    picture: np.ndarray | None = None
    lungs: np.ndarray | None = None
    score: float | None = None
    label: bool | None = None
    heat: np.ndarray | None = None


class _Read(NamedTuple):
    look: Look
    radiograph: torch.Tensor | None
    """`(1, H, W)`, None where it cannot be read."""
    reduced: torch.Tensor | None
    """`(1, S, S)`, as the lung finder wants it."""


class Station:
    """Reads files, refuses what is no valid X-ray, and scores the rest.

    Args:
        model: The exported model.
        lungs: The lung finder.
        gate: The gate.
        validated: What the model was validated on; None while that is being found out.
        any_source: Accept kinds of source that it was not validated on.
    """

    def __init__(
        self,
        model: ExportedModel,
        lungs: LungFinder,
        gate: Gate,
        validated: Validated | None = None,
        *,
        any_source: bool = False,
    ) -> None:
        self.model = model
        self.lungs = lungs
        self.gate = gate
        self.validated = validated
        self.any_source = any_source

    def look(self, files: Iterable[Path]) -> Iterator[list[Look]]:
        """Look at files, decoded ahead and in parallel.

        Args:
            files: Any files.

        Yields:
            What was seen, in the order of the files, a batch at a time.
        """
        for batch in _batches(self._read_ahead(files)):
            yield self._judge(batch)

    def _read_ahead(self, files: Iterable[Path]) -> Iterator[_Read]:
        """Read files in threads, in order, no more ahead than there are threads: originals take 80 MB each."""
        workers = os.cpu_count() or 1
        waiting: deque[Future[_Read]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            for file in files:
                waiting.append(pool.submit(self._read, file))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _read(self, path: Path) -> _Read:
        look = Look(path, stamp_of(path))
        try:
            look = replace(look, header=read_header(path))
            refusals = self._outside(look.header)
            if refusals:
                return _Read(replace(look, refusals=refusals), None, None)
            radiograph = read_radiograph(path)
        except RadiographError as error:
            return _Read(replace(look, refusals=(f"not readable as a frontal X-ray: {error.reason}",)), None, None)
        height, width = radiograph.shape[-2:]
        look = replace(look, height=height, width=width, picture=picture_of(radiograph))
        if self.validated is not None and min(height, width) < self.validated.least_side:
            reason = f"too small: {width} x {height} pixels, validated from {self.validated.least_side}"
            return _Read(replace(look, refusals=(reason,)), None, None)
        return _Read(look, radiograph, self.lungs.reduce(radiograph))

    def _outside(self, header: Header | None) -> tuple[str, ...]:
        """Return why the header alone is outside of what the model was validated on."""
        if self.validated is None or header is None:
            return ()
        found = []
        if not self.any_source and header.source not in self.validated.sources:
            found.append(f"never validated on this kind of source: {header.source}")
        ages = self.validated.ages
        if header.age is not None and ages is not None and not ages[0] <= header.age <= ages[1]:
            found.append(f"age {header.age:.0f} outside the validated {ages[0]:.0f} to {ages[1]:.0f} years")
        return tuple(found)

    def _judge(self, batch: Sequence[_Read]) -> list[Look]:
        """Find the lungs, ask the gate, and score what passes it; refused ones stay as they are."""
        looks = {read.look.path: read.look for read in batch}
        seen = [read for read in batch if read.reduced is not None]
        if seen:
            found = self.lungs(torch.stack([read.reduced for read in seen if read.reduced is not None]))
            for read, lungs in zip(seen, found, strict=True):
                refusals = tuple(self.gate.refusals(read.reduced, lungs)) if read.reduced is not None else ()
                looks[read.look.path] = replace(read.look, lungs=only_lungs(lungs), refusals=refusals)
        passed = [read for read in seen if not looks[read.look.path].refusals]
        for look in self._score(passed, looks):
            looks[look.path] = look
        return [looks[read.look.path] for read in batch]

    def _score(self, passed: Sequence[_Read], looks: dict[Path, Look]) -> Iterator[Look]:
        """Score images, those of one size together."""
        by_size = sorted(passed, key=_shape)
        for _, group in groupby(by_size, key=_shape):
            reads = list(group)
            scores = self.model(np.stack([read.radiograph.numpy() for read in reads if read.radiograph is not None]))
            for read, score, label, heat in zip(reads, *scores, strict=True):
                yield replace(looks[read.look.path], score=float(score), label=bool(label), heat=heat)


def stamp_of(path: Path) -> Stamp:
    """Return size and time of change of a file; zeros where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return Stamp(0, 0)
    return Stamp(facts.st_size, facts.st_mtime_ns)


def picture_of(radiograph: torch.Tensor) -> np.ndarray:
    """Reduce an X-ray for people, `(1, H, W)` to `(h, w)`, in [0, 1]; one that is small enough stays."""
    height, width = radiograph.shape[-2:]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return reduce(radiograph, size)[0].numpy()


def _shape(read: _Read) -> tuple[int, ...]:
    return () if read.radiograph is None else tuple(read.radiograph.shape)


def _batches(reads: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Gather files until there are enough of them, or enough pixels."""
    batch: list[_Read] = []
    pixels = 0
    for read in reads:
        batch.append(read)
        pixels += 0 if read.radiograph is None else read.radiograph.numel()
        if len(batch) == MOST_IN_BATCH or pixels >= MOST_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
