"""Lung segmenter that comes with the package, used wherever no other one is given.

Its card, with data, training and measurements: `docs/reference/lung_segmenter.md`. It was trained by
`benchmarks/packaged_segmenter.py`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save

from anomalib_cxr.errors import SegmenterError
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.packaged_file import read_packaged

from .network import LungSegmenter, load_segmenter

logger = logging.getLogger(__name__)

WEIGHTS = Path(__file__).with_name("lungs.safetensors")
"""File of the weights inside the package."""
SHA256 = "fcd41aa68997310f0d4424e60edde82a4c733ece4bbe11bed677e04c5ada1e44"
"""SHA-256 of that file, as trained; another file is refused."""
_HEADER = "segmenter"  # a single key: their order is not fixed, and the file would differ from run to run


class ChosenSegmenter(NamedTuple):
    """Segmenter to use, and the file that identifies it."""

    file: Path
    network: LungSegmenter


def choose_segmenter(given: Path | str | None) -> ChosenSegmenter:
    """Load the given segmenter, or the packaged one if there is none; the latter is logged.

    Args:
        given: File of `anomalib-cxr segment train`; None for the packaged segmenter.

    Returns:
        The segmenter, on the CPU, in evaluation mode.

    Raises:
        SegmenterError: If the file cannot be used.

    Example:
        >>> choose_segmenter(None).file.name
        'lungs.safetensors'
    """
    if given is not None:
        return ChosenSegmenter(Path(given), load_segmenter(given))
    logger.info("No lung segmenter given: the one of the package is used (SHA-256 %s...)", SHA256[:12])
    return ChosenSegmenter(WEIGHTS, load_packaged_segmenter())


def load_packaged_segmenter() -> LungSegmenter:
    """Load the packaged segmenter, after a check of its SHA-256.

    Returns:
        The segmenter, on the CPU, in evaluation mode.

    Raises:
        SegmenterError: If the file is missing or not the one that was packaged.

    Example:
        >>> load_packaged_segmenter().widths
        (8, 16, 32, 64, 128)
    """
    content = read_packaged(WEIGHTS, SHA256, SegmenterError, "give a segmenter of your own")
    with torch.random.fork_rng(devices=[]):  # drawn weights, to be replaced, must not change a training under way
        segmenter = LungSegmenter(**read_header(content)["settings"])
    segmenter.load_state_dict({name: value.float() for name, value in load(content).items()})
    return segmenter.eval()


def read_header(content: bytes) -> dict[str, Any]:
    """Read settings and provenance of weights.

    Args:
        content: Content of a file of :func:`save_weights`.

    Returns:
        `settings`, the arguments of :class:`~anomalib_cxr.segmentation.network.LungSegmenter`, and `record`.

    Example:
        >>> sorted(read_header(WEIGHTS.read_bytes())["settings"])
        ['image_size', 'widths']
    """
    size = int.from_bytes(content[:8], "little")  # of the header, JSON, which the format begins with
    header: dict[str, Any] = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_HEADER])
    return header


def save_weights(segmenter: LungSegmenter, path: Path, record: Mapping[str, Any]) -> str:
    """Write weights in half precision, the same bytes for the same segmenter and record.

    Args:
        segmenter: Segmenter, on any device.
        path: File to write.
        record: Provenance (seed, data, versions), kept in the header as JSON.

    Returns:
        SHA-256 of the file.
    """
    header = json.dumps({"settings": segmenter.settings, "record": dict(record)}, default=str, sort_keys=True)
    weights = {name: value.cpu().half().contiguous() for name, value in segmenter.state_dict().items()}
    content = save(weights, {_HEADER: header})
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
