"""Exports that are whole or not there at all, and that score as the trained model did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anomalib.deploy.export import CompressionType
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


class WholeExport(ExportMixin):
    """anomalib's exports, moved into place only when complete: an interrupted one leaves the former model as it was.

    A subclass names in `training_only` the networks that scoring does without, beside its `model`.
    """

    training_only: tuple[str, ...] = ()

    def check_exportable(self) -> None:
        """Refuse to export a model that cannot score yet; to be extended where there are such."""

    def to_torch(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to PyTorch, without what only training needs; see anomalib's `ExportMixin.to_torch`."""
        self.check_exportable()
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
        self.check_exportable()
        kwargs.setdefault("opset_version", 18)
        return _export_whole(super().to_onnx, export_root, *args, **kwargs)

    def to_openvino(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to OpenVINO; see anomalib's `ExportMixin.to_openvino`.

        All computes in float32, but for what is quantized, and for the convolutions of `FP16`, which the machine
        computes in what it prefers.
        """

        def export(folder: str, *args: Any, **kwargs: Any) -> Path:
            from .openvino_precision import keep_float32  # noqa: PLC0415  # OpenVINO is a second that only exporting is to cost

            halved = kwargs.get("compression_type") == CompressionType.FP16
            # Halved here and not by anomalib: the forms that keep to float32 are found among whole weights.
            model = exporter(folder, *args, **kwargs | ({"compression_type": None} if halved else {}))
            keep_float32(model, halved=halved)
            return model

        exporter: Callable[..., Path] = super().to_openvino
        return _export_whole(export, export_root, *args, **kwargs)

    def _compress_ov_model(
        self,
        model: Any,
        compression_type: CompressionType | None = None,
        datamodule: Any = None,
        metric: Any = None,
        task: Any = None,
        max_drop: float = 0.01,
    ) -> Any:
        """Quantize a converted model; anomalib's own way quantizes what scores are too sensitive to."""
        from .quantization import quantize  # noqa: PLC0415  # NNCF is some seconds that only quantizing is to cost

        del task
        return quantize(model, CompressionType(compression_type), datamodule, metric, max_drop)
