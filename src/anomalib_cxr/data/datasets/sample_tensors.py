"""Image and masks of one sample, as tensors that torchvision transforms together."""

from __future__ import annotations

from typing import NamedTuple

from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.data.reading.verification import FileProblem
from anomalib_cxr.errors import RadiographError

from .verification import SamplePaths, check_masks


class SampleTensors(NamedTuple):
    """Image and masks of one sample."""

    image: Image
    """Intensities in [0, 1], `(1, H, W)`, float32."""
    roi_mask: Mask | None = None
    """Lungs, `(H, W)`, bool; None if there is no mask."""
    lesion: Mask | None = None
    """Lesion, `(H, W)`, bool; None if there is no mask."""

    def transformed(self, transform: Transform | None) -> SampleTensors:
        """Return image and masks after a transform applied to all of them together."""
        return self if transform is None else SampleTensors(*transform(*self))


def read_sample(paths: SamplePaths) -> SampleTensors:
    """Read image and masks without checking them.

    Args:
        paths: Files of the sample.

    Returns:
        Image `(1, H, W)` and masks `(H, W)`, at the size of the files.

    Raises:
        RadiographError: If a file cannot be read.
    """
    return SampleTensors(
        Image(read_radiograph(paths.image, paths.sixteen_bit_white)),
        Mask(read_mask(*paths.roi_masks)) if paths.roi_masks else None,
        Mask(read_mask(paths.lesion)) if paths.lesion else None,
    )


def check_sample(paths: SamplePaths) -> tuple[SampleTensors | None, list[FileProblem]]:
    """Read image and masks, and check that they can be used together.

    Args:
        paths: Files of the sample.

    Returns:
        Image and masks, and no problems; or None, and all problems.
    """
    try:
        image = read_radiograph(paths.image, paths.sixteen_bit_white)
    except RadiographError as error:
        return None, [FileProblem(error.reason, paths.image)]
    masks, problems = check_masks(paths, tuple(image.shape[-2:]))
    if problems:
        return None, problems
    return SampleTensors(Image(image), *(None if mask is None else Mask(mask) for mask in masks)), []
