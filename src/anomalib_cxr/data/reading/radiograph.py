"""Readers of radiographs and lung masks as tensors, in PNG, JPEG, TIFF, BMP and DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from anomalib_cxr.errors import RadiographError

from .content import ImageSource, read_content
from .gray import SIXTEEN_BITS
from .intensities import image_size, read_intensities
from .limits import size_text
from .picture import read_picture


def read_radiograph(source: ImageSource, sixteen_bit_white: int | None = None) -> torch.Tensor:
    """Read one radiograph, as :func:`anomalib_cxr.data.reading.intensities.read_intensities` does.

    Args:
        source: The file, or its content.
        sixteen_bit_white: White of 16-bit PNG and TIFF files, such as 4095 for 12 bits. None is 65535, and refuses
            files without any value above half of that: they may hold fewer bits.

    Returns:
        Image of shape ``(1, H, W)``, float32 in [0, 1]. Dense tissue is bright in DICOM files; in other files it is if
        it is bright in a viewer.

    Raises:
        RadiographError: The file is missing, empty, truncated, no image, too small or too large, or has several frames
            or values outside its range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "chest.png")
        ...     Image.new("L", (32, 16), color=51).save(path)
        ...     image = read_radiograph(path)
        >>> image.shape, round(image.max().item(), 3)
        (torch.Size([1, 16, 32]), 0.2)
    """
    return torch.from_numpy(read_intensities(source, sixteen_bit_white))[None]


def read_mask(path: Path | str, *others: Path | str) -> torch.Tensor:
    """Read a lung mask from one file or several, such as one for each lung.

    A pixel belongs to the lungs where the file's value is above half of white (8 bits: above 127; 16 bits: above 32767;
    color by its luminance), or where it is 1 in a file with no other values than 0 and 1. Several files are merged by
    "or".

    Args:
        path: The mask.
        *others: Further masks of the same size.

    Returns:
        Mask of shape ``(H, W)``, bool, True in the lungs. A file without any lung pixel is accepted.

    Raises:
        RadiographError: A file cannot be read, differs in size from the first, or has labels, none of them above half
            of white.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     left, right = Path(folder, "left.png"), Path(folder, "right.png")
        ...     Image.new("L", (32, 16), color=0).save(left)
        ...     Image.new("L", (32, 16), color=255).save(right)
        ...     mask = read_mask(left, right)
        >>> mask.shape, mask.all().item()
        (torch.Size([16, 32]), True)
    """
    mask = _read_mask_file(Path(path))
    for other in map(Path, others):
        part = _read_mask_file(other)
        if part.shape != mask.shape:
            raise RadiographError(
                other,
                f"mask of {size_text(part.shape)}, but {Path(path).name} is {size_text(mask.shape)}",
                "masks of one radiograph in one size",
                "check that the files belong to the same radiograph",
            )
        mask |= part
    return torch.from_numpy(mask)


def _read_mask_file(path: Path) -> npt.NDArray[np.bool_]:
    content = read_content(path)
    image_size(content)
    values, white = read_picture(content, SIXTEEN_BITS)
    highest = values.max()
    mask: npt.NDArray[np.bool_] = values > (0.5 if highest == 1 else white / 2)
    if highest > 0 and not mask.any():
        raise RadiographError(
            path,
            f"mask whose greatest value is {highest}, not above half of white ({white:g})",
            "lung as white or 1, everything else as 0",
            "save the lung labels as white",
        )
    return mask
