"""Refusal of calibration images that the model was trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from anomalib_cxr.data.reading.file_hashes import hash_contents
from anomalib_cxr.deploy.runtime import read_training_images
from anomalib_cxr.errors import DatasetError

logger = logging.getLogger(__name__)


def refuse_training_images(graph: Path, images: Sequence[Path]) -> None:
    """Refuse images that an exported model was trained on, by their content: a model knows them too well.

    Args:
        graph: The `model.xml`, which remembers its training images.
        images: Labeled images that are to calibrate.

    Raises:
        DatasetError: If there are such images; names all of them.
    """
    trained = read_training_images(graph)
    if not trained:
        logger.warning(
            "%s does not tell which images it was trained on, as exports by former versions and by other packages do "
            "not: make sure that none of them calibrates.",
            graph,
        )
        return
    known = [path for path, digest in zip(images, hash_contents(images), strict=True) if digest in trained]
    if known:
        raise DatasetError(
            f"{len(known)} of {len(images)} labeled images that the model was trained on",
            "images that it has never seen: on those of its training it would seem better than it is",
            "leave them out",
            {"trained on": known},
        )
