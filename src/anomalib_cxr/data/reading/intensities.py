"""Readers of radiographs in PNG, JPEG, TIFF, BMP and DICOM files as arrays, and of their size.

They need no torch, whose import takes longer than a page of the worklist's server.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .content import FileContent, ImageSource, path_of, read_content
from .dicom import dicom_size, read_dicom
from .dicom_file import is_dicom
from .limits import check_size
from .picture import picture_size, read_picture, verify_picture


def read_intensities(source: ImageSource, sixteen_bit_white: int | None = None) -> npt.NDArray[np.float32]:
    """Read one radiograph as an array; the format is recognized by the file's content, not by its name.

    DICOM files are read by :func:`anomalib_cxr.data.reading.dicom.read_dicom`. PNG, JPEG, TIFF and BMP files may be
    gray, RGB or have a palette; of color the luminance is taken. What the file says about its pixels is obeyed:
    polarity (TIFF's WhiteIsZero), orientation (EXIF, TIFF) and opacity, where transparent pixels become black.

    Values are divided by the value of white: the greatest value of the bits of a sample, and 1 for floating point.
    Files of 16 bits often hold the 10 to 14 bits of a detector and cannot state it; divided by 65535 these would be
    black. Their white is `sixteen_bit_white`, never a guess from the values.

    A file's bytes are read once, at most 512 MiB. Decoding allocates at most 24 bytes a pixel, 1.5 GiB for the largest
    image; the result has 4.

    Args:
        source: The file, or its content.
        sixteen_bit_white: White of 16-bit PNG and TIFF files, such as 4095 for 12 bits. None is 65535, and refuses
            files without any value above half of that: they may hold fewer bits.

    Returns:
        Array of shape ``(H, W)``, float32 in [0, 1]. Dense tissue is bright in DICOM files; in other files it is if
        it is bright in a viewer.

    Raises:
        RadiographError: The file is missing, empty, truncated, no image, too small or too large, or has several frames
            or values outside its range.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "chest.png")
        ...     Image.new("L", (32, 16), color=51).save(path)
        ...     image = read_intensities(path)
        >>> image.shape, round(float(image.max()), 3)
        ((16, 32), 0.2)
    """
    content = source if isinstance(source, FileContent) else read_content(source)
    image_size(content)  # checks the size before anything is decoded
    if is_dicom(content):
        return read_dicom(content)
    levels = read_picture(content, sixteen_bit_white)
    # In one pass, and never in double precision: an original takes 80 MB.
    intensities: npt.NDArray[np.float32] = np.divide(
        levels.values, np.float32(levels.white), dtype=np.float32, casting="unsafe"
    )
    return intensities


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return height and width of an image file, from its header only.

    Args:
        source: The file, or its content.

    Returns:
        ``(H, W)`` in pixels.

    Raises:
        RadiographError: The file is missing, empty, no image, too small or too large.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (32, 16)).save(Path(folder, "chest.png"))
        ...     image_size(Path(folder, "chest.png"))
        (16, 32)
    """
    size = dicom_size(source) if is_dicom(source) else picture_size(source)
    check_size(path_of(source), size)
    return size


def intact_size(source: ImageSource) -> tuple[int, int]:
    """Check the checksums of a PNG file, and return its height and width.

    The file is read to its end but not decoded. This finds truncated and damaged files some twenty times as fast as
    :func:`read_intensities`. Other formats have no checksums: only their header is read.

    Args:
        source: The file, or its content.

    Returns:
        ``(H, W)`` in pixels.

    Raises:
        RadiographError: The file is missing, empty, truncated, damaged, no image, too small or too large.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (32, 16)).save(Path(folder, "chest.png"))
        ...     intact_size(Path(folder, "chest.png"))
        (16, 32)
    """
    size = image_size(source)
    if not is_dicom(source):
        verify_picture(source)
    return size
