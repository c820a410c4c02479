"""Pictures of scored X-rays, from the same reader that the scores come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from lightning.pytorch import LightningModule, Trainer
from PIL.Image import Image
from torchvision.transforms.v2.functional import resize

from anomalib_cxr.data.radiograph import read_radiograph


class RadiographVisualizer(ImageVisualizer):
    """anomalib's pictures, of X-rays of any kind that can be scored.

    anomalib opens the file again by Pillow, to which a 16-bit PNG is white and DICOM unknown, and saves under the
    file's own suffix. Here the file is read as a radiograph and the picture is always a PNG.
    """

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save a picture of each X-ray of a batch."""
        del pl_module, outputs, batch_idx, dataloader_idx
        self.output_dir = self.output_dir or Path(trainer.default_root_dir) / "images"
        for item in batch:
            image = resize(read_radiograph(item.image_path), list(self.field_size), antialias=True).expand(3, -1, -1)
            picture = self.visualize(replace(item, image=image, image_path=None))
            if isinstance(picture, Image):
                picture.save(generate_output_filename(_as_png(Path(item.image_path)), self.output_dir))


def _as_png(path: Path) -> Path:
    """Name the picture of a file; a DICOM file's name is often a UID, of which no dotted part may be cut off."""
    return path.with_name(f"{path.name.removesuffix('.png')}.png")
