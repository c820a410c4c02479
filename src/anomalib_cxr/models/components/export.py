"""Exports that are whole or not there at all, and that score as the trained model did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from xml.etree import ElementTree as ET  # reads only the file that the export has just written

from anomalib.models.components.base.export_mixin import ExportMixin
from torch import nn

_UNFINISHED = ".exporting-"


def _export_whole(export: Callable[..., Path], export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
    """Let `export` write into a temporary folder beside the target and move its files over when all are there."""
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


def _keep_float32(model: Path) -> None:
    """Mark each operation of an OpenVINO model such that it is computed in float32.

    On processors with bfloat16 instructions OpenVINO computes in bfloat16 unless told otherwise, which moves scores
    by some per cent from one machine to the next. The mark is OpenVINO's own runtime attribute against the change of
    precision.
    """
    tree = ET.parse(model)  # noqa: S314  # see the import
    for layer in tree.getroot().iter("layer"):
        marks = layer.find("rt_info")
        if marks is None:
            marks = ET.Element("rt_info")
            layer.insert(1 if layer.find("data") is not None else 0, marks)
        ET.SubElement(marks, "attribute", {"name": "precise", "version": "0"})
    tree.write(model)


class WholeExport(ExportMixin):
    """anomalib's exports, moved into place only when complete: an interrupted one leaves the former model as it was.

    A subclass names in `training_only` the networks that scoring does without, beside its `model`.
    """

    training_only: ClassVar[tuple[str, ...]] = ()

    def to_torch(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to PyTorch, without what only training needs; see anomalib's `ExportMixin.to_torch`."""
        parts = {name: getattr(self, name) for name in self.training_only}
        try:
            for name in parts:
                setattr(self, name, nn.Identity())
            return _export_whole(super().to_torch, export_root, *args, **kwargs)
        finally:
            for name, part in parts.items():
                setattr(self, name, part)

    def to_onnx(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to ONNX; see anomalib's `ExportMixin.to_onnx`. The operator set is what torch's exporter writes."""
        kwargs.setdefault("opset_version", 18)
        return _export_whole(super().to_onnx, export_root, *args, **kwargs)

    def to_openvino(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to OpenVINO; see anomalib's `ExportMixin.to_openvino`. Uncompressed, it computes in float32."""

        def export(folder: str, *args: Any, **kwargs: Any) -> Path:
            model = exporter(folder, *args, **kwargs)
            if kwargs.get("compression_type") is None:
                _keep_float32(model)
            return model

        exporter: Callable[..., Path] = super().to_openvino
        return _export_whole(export, export_root, *args, **kwargs)
