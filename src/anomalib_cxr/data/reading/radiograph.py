"""Readers of radiographs and lung masks in PNG, JPEG, TIFF, BMP and DICOM files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError

from anomalib_cxr.errors import RadiographError

from .content import FileContent, ImageSource, open_source, path_of, read_content
from .dicom import dicom_size, read_dicom
from .dicom_file import is_dicom

MIN_SIDE = 16  # px; smaller is a thumbnail or an icon
MAX_PIXELS = 150_000_000  # radiographs have about 20 million; Pillow itself stops at 179 million

_TWELVE_BIT = 4095.0
_SIXTEEN_BIT = 65535.0
# White in Pillow's gray modes; every other mode is color and goes through Pillow's luminance, mode "L".
_WHITE = {"1": 1.0, "L": 255.0, "F": 1.0} | dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N", "I"), _SIXTEEN_BIT)


def read_radiograph(source: ImageSource) -> torch.Tensor:
    """Read one radiograph; the format is recognized by the file's content, not by its name.

    DICOM files are read by :func:`anomalib_cxr.data.reading.dicom.read_dicom`, PNG, JPEG, TIFF and BMP files by Pillow:
    gray of 1, 8 or 16 bits, float gray in [0, 1], and color, of which the luminance is taken. An 8-bit image is divided
    by 255. A 16-bit image is divided by 4095 if no value exceeds that, else by 65535: a PNG cannot state that it holds
    the 12 bits of a detector, as the Montgomery set is documented to, and divided by 65535 these would be black. The
    price: a 16-bit image with no value above 4095, one sixteenth of white, is read 16 times brighter.

    Args:
        source: The file, or its content.

    Returns:
        Image of shape ``(1, H, W)``, float32 in [0, 1]. Dense tissue is bright in DICOM files; in other files the
        polarity is left as it is.

    Raises:
        RadiographError: The file is missing, empty, truncated, no image, too small or too large, or has several frames
            or values outside its range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "chest.png")
        ...     Image.new("L", (32, 16), color=51).save(path)
        ...     image = read_radiograph(path)
        >>> image.shape, round(image.max().item(), 3)
        (torch.Size([1, 16, 32]), 0.2)
    """
    content = source if isinstance(source, FileContent) else read_content(source)
    image_size(content)  # checks the size before anything is decoded
    if is_dicom(content):
        return read_dicom(content)
    values, white = _decode(content)
    if white == _SIXTEEN_BIT and values.max() <= _TWELVE_BIT:
        white = _TWELVE_BIT
    intensities = values.astype(np.float32)
    intensities /= np.float32(white)  # in place: an original takes 80 MB
    return torch.from_numpy(intensities)[None]  # (1, H, W)


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
                f"mask of {_size_text(part.shape)}, but {Path(path).name} is {_size_text(mask.shape)}",
                "masks of one radiograph in one size",
                "check that the files belong to the same radiograph",
            )
        mask |= part
    return torch.from_numpy(mask)


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return height and width of an image file, from its header only.

    Args:
        source: The file, or its content.

    Returns:
        ``(H, W)`` in pixels.

    Raises:
        RadiographError: The file is missing, empty, no image, too small or too large.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (32, 16)).save(Path(folder, "chest.png"))
        ...     image_size(Path(folder, "chest.png"))
        (16, 32)
    """
    path = path_of(source)
    if is_dicom(source):
        size = dicom_size(source)
    else:
        with _open_image(source) as image:
            size = image.height, image.width
    if min(size) < MIN_SIDE:
        raise RadiographError(
            path,
            f"too small: {_size_text(size)}",
            f"at least {MIN_SIDE} px a side",
            "use the original instead of a thumbnail",
        )
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(path, _size_text(size))
    return size


def intact_size(source: ImageSource) -> tuple[int, int]:
    """Check the checksums of a PNG file, and return its height and width.

    The file is read to its end but not decoded. This finds truncated and damaged files some twenty times as fast as
    :func:`read_radiograph`. Other formats have no checksums: only their header is read.

    Args:
        source: The file, or its content.

    Returns:
        ``(H, W)`` in pixels.

    Raises:
        RadiographError: The file is missing, empty, truncated, damaged, no image, too small or too large.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (32, 16)).save(Path(folder, "chest.png"))
        ...     intact_size(Path(folder, "chest.png"))
        (16, 32)
    """
    size = image_size(source)
    with _open_image(source) as image:
        image.verify()
    return size


def _size_text(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]} px"


def _too_large(path: Path, size: str) -> RadiographError:
    return RadiographError(path, f"too large: {size}", f"at most {MAX_PIXELS:,} px", "make the image smaller")


@contextmanager
def _open_image(source: ImageSource) -> Iterator[Image.Image]:
    """Open an image; any exception while it is open is converted to a `RadiographError`."""
    path = path_of(source)
    try:
        with open_source(source) as file, Image.open(file) as image:
            yield image
    except (RadiographError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error)) from error
    except UnidentifiedImageError as error:
        raise RadiographError(
            path,
            "not an image, or its header is damaged",
            "PNG, JPEG, TIFF, BMP, or DICOM with its preamble",
            "open it in a viewer, and convert it or leave it out",
        ) from error
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error and more
        raise RadiographError(
            path,
            f"truncated or damaged: {error or type(error).__name__}",
            "a complete image file",
            "copy or download the file again",
        ) from error


def _decode(source: ImageSource) -> tuple[npt.NDArray[Any], float]:
    """Return the gray values of a file, of shape ``(H, W)``, and the value of white."""
    path = path_of(source)
    with _open_image(source) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise RadiographError(path, f"{frames} frames", "a single image", "save the radiograph on its own")
        gray = image if image.mode in _WHITE else image.convert("L")
        values, white = np.asarray(gray), _WHITE[gray.mode]
    low, high = values.min(), values.max()  # both are NaN if any value is
    if not (low >= 0 and high <= white):
        raise RadiographError(
            path,
            "NaN among the values" if np.isnan(low) else f"values from {low} to {high}",
            f"values from 0 to {white:g}",
            "convert the file to a PNG of 8 or 16 bits",
        )
    return values, white


def _read_mask_file(path: Path) -> npt.NDArray[np.bool_]:
    content = read_content(path)
    image_size(content)
    values, white = _decode(content)
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
