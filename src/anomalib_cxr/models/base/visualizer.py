"""Visualization of scored X-rays, read as for scoring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from anomalib.visualization import ImageVisualizer
from lightning.pytorch import LightningModule, Trainer
from PIL.Image import Image
from torchvision.transforms.v2.functional import resize

from anomalib_cxr.data.reading.radiograph import read_radiograph


class RadiographVisualizer(ImageVisualizer):
    """anomalib's visualizer for every X-ray that can be scored.

    anomalib opens the file again by Pillow, to which a 16-bit PNG is white and DICOM unknown, and saves under the
    file's own suffix. Here the file is read as a radiograph and the result is always a PNG.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sources: dict[Path, Path] = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save a visualization of each X-ray of a batch."""
        del outputs, batch_idx, dataloader_idx
        white = getattr(pl_module, "sixteen_bit_white", None)
        self.output_dir = self.output_dir or Path(trainer.default_root_dir) / "images"
        for item in batch:
            image = resize(read_radiograph(item.image_path, white), list(self.field_size), antialias=True).expand(
                3, -1, -1
            )
            figure = self.visualize(replace(item, image=image, image_path=None))
            if isinstance(figure, Image):
                target = self._target(Path(item.image_path), Path(self.output_dir))
                target.parent.mkdir(parents=True, exist_ok=True)
                figure.save(target)

    def _target(self, path: Path, folder: Path) -> Path:
        """Return the target of a file: its last two parts, or its whole path where another file has taken those."""
        # A DICOM file's name is often a UID, of which no dotted part may be cut off.
        parts = (*path.parts[:-1], f"{path.name.removesuffix('.png')}.png")
        target = folder.joinpath(*parts[-2:]) if len(path.parents) > 1 else folder / parts[-1]
        if self._sources.setdefault(target, path) != path:
            target = folder.joinpath(*path.absolute().parts[1:-1], parts[-1])
        return target
