"""Atomic exports of models, and exports to OpenVINO."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from anomalib.deploy.export import CompressionType
from torch import nn

_UNFINISHED = ".exporting-"


class TrainingFacts(NamedTuple):
    """Facts of a training that an exported graph carries."""

    sixteen_bit_white: int | None = None
    """White of 16-bit images; None for the reader's default."""
    training_images: str = ""
    """Hashes of the training images, as :class:`anomalib_cxr.data.reading.file_hashes.KnownImages` writes them."""


def export_whole(export: Callable[..., Path], export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
    """Export into a temporary folder beside the target, and move the files over when all are there.

    An interrupted export leaves the former model as it was.

    Args:
        export: Writes a model into the folder that is its first argument, and returns the path of the file to load.
        export_root: Folder of the export.
        *args: Further arguments of `export`.
        **kwargs: Further named arguments of `export`.

    Returns:
        Path of the file to load.
    """
    root = Path(export_root)
    root.mkdir(parents=True, exist_ok=True)
    for left_over in root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with TemporaryDirectory(dir=root, prefix=_UNFINISHED) as folder:
        written = export(folder, *args, **kwargs)
        target = root / written.parent.relative_to(folder)
        target.mkdir(parents=True, exist_ok=True)
        # The file that a user loads comes last: whoever finds it finds its weights too.
        for file in sorted(written.parent.iterdir(), key=lambda path: path == written):
            os.replace(file, target / file.name)  # noqa: PTH105  # atomic, and replaces on every system
    return target / written.name


def export_openvino(
    export: Callable[..., Path],
    export_root: Path | str,
    *args: Any,
    facts: TrainingFacts | None = None,
    **kwargs: Any,
) -> Path:
    """Export to OpenVINO, with operations marked to be computed in float32 (:mod:`anomalib_cxr.deploy.openvino_graph`).

    Quantized operations, and the convolutions of `FP16`, are exempt.

    Args:
        export: anomalib's `ExportMixin.to_openvino`.
        export_root: Folder of the export.
        *args: Further arguments of `export`.
        facts: Facts of the training, noted in the graph.
        **kwargs: Further named arguments of `export`.

    Returns:
        Path of the XML file.
    """

    def export_and_finalize(folder: str, *args: Any, **kwargs: Any) -> Path:
        from .openvino_graph import finalize_graph  # noqa: PLC0415  # OpenVINO takes a second to import

        half_weights = kwargs.get("compression_type") == CompressionType.FP16
        # Compressed here and not by anomalib: matrices are compared in full precision.
        model = export(folder, *args, **kwargs | ({"compression_type": None} if half_weights else {}))
        finalize_graph(model, half_weights=half_weights, facts=facts)
        return model

    return export_whole(export_and_finalize, export_root, *args, **kwargs)


@contextmanager
def without_parts(module: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Take networks out of a module for the time of an export.

    Args:
        module: The module.
        names: Attributes with the networks.

    Yields:
        Nothing.
    """
    parts = {name: getattr(module, name) for name in names}
    try:
        for name in parts:
            setattr(module, name, nn.Identity())
        yield
    finally:
        for name, part in parts.items():
            setattr(module, name, part)
