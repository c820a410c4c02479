"""What belongs to one X-ray: its image, the mask of its lungs, and that of its lesion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from .radiograph import read_mask, read_radiograph


class PictureFiles(NamedTuple):
    """The files of one X-ray."""

    image: str
    roi_masks: tuple[str, ...] = ()
    """Masks of the lungs, to be merged; none where there is no mask."""
    lesion: str = ""
    """Mask of the lesion; empty where there is none."""


class Pictures(NamedTuple):
    """The pictures of one X-ray."""

    image: Image
    """Intensities in [0, 1], `(1, H, W)`, float32."""
    roi_mask: Mask | None = None
    """Lungs, `(H, W)`, bool."""
    lesion: Mask | None = None
    """Lesion, `(H, W)`, bool."""

    def transformed(self, transform: Transform | None) -> Pictures:
        """Return them after a transform that moves all of them alike."""
        return self if transform is None else Pictures(*transform(*self))


def picture_files(samples: pd.DataFrame) -> Iterator[PictureFiles]:
    """Yield the files of each X-ray of a table from :func:`anomalib_cxr.data.samples.make_samples`.

    Example:
        >>> table = pd.DataFrame({"image_path": ["a.png"], "roi_mask_paths": [("left.png",)], "mask_path": [""]})
        >>> list(picture_files(table))
        [PictureFiles(image='a.png', roi_masks=('left.png',), lesion='')]
    """
    yield from map(PictureFiles, samples.image_path, samples.roi_mask_paths, samples.mask_path)


def read_pictures(files: PictureFiles) -> Pictures:
    """Read the files of one X-ray.

    Raises:
        RadiographError: If one cannot be read.
    """
    return Pictures(
        Image(read_radiograph(files.image)),
        Mask(read_mask(*files.roi_masks)) if files.roi_masks else None,
        Mask(read_mask(files.lesion)) if files.lesion else None,
    )
