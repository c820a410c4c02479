"""Reader of PNG, JPEG and BMP files, by Pillow, and of TIFF files; the format follows from the content.

Pillow opens some forty formats, among them EPS, which runs Ghostscript: only those that are named here are opened.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from anomalib_cxr.errors import RadiographError

from .content import ImageSource, open_source, path_of
from .dicom_codecs import jpeg_frame
from .gray import GrayLevels, Samples, oriented, oriented_size, to_levels
from .limits import too_large
from .tiff import open_tiff, tiff_orientation, tiff_samples
from .written import refuse_written

PILLOW_FORMATS = ("PNG", "JPEG", "BMP")

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of either byte order, classic and big
_HEAD = 18  # bytes by which a picture is recognized
_BMP_HEADERS = tuple(struct.pack("<I", length) for length in (12, 40, 52, 56, 64, 108, 124))
_PNG = b"\x89PNG\r\n\x1a\n"
_GRAY_MODES = {"1": 1.0, "L": 255.0} | dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N", "I"))
_JPEG_HEAD = 2**20  # bytes before the frame, such as EXIF and color profiles
_MAX_MESSAGE = 200  # characters kept of a library's message


def is_picture(source: ImageSource) -> bool:
    """Return whether a file begins as a PNG, JPEG, TIFF or BMP file does.

    Args:
        source: The file, or its content.

    Returns:
        True for one of these; the rest of the file may be damaged.

    Raises:
        RadiographError: The file is missing, empty, or cannot be opened.

    Example:
        >>> from .content import FileContent
        >>> is_picture(FileContent(Path("report.doc"), b"BMI of the patient: 23"))
        False
    """
    with open_source(source) as file:
        head = file.read(_HEAD)
    is_bmp = head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS
    return is_bmp or head[:3] == b"\xff\xd8\xff" or head[:4] in _TIFF or head[:8] == _PNG


def picture_size(source: ImageSource) -> tuple[int, int]:
    """Return height and width of an upright picture, from its header only.

    Args:
        source: A PNG, JPEG, TIFF or BMP file, or its content.

    Returns:
        ``(H, W)`` in pixels, after the orientation that the file states.

    Raises:
        RadiographError: The file is missing, empty, of another format, or its header is damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (32, 16)).save(Path(folder, "chest.png"))
        ...     picture_size(Path(folder, "chest.png"))
        (16, 32)
    """
    with _opened(source) as (file, is_tiff):
        if is_tiff:
            with open_tiff(path_of(source), file) as page:
                return oriented_size((page.imagelength, page.imagewidth), tiff_orientation(page))
        with Image.open(file, formats=PILLOW_FORMATS) as image:
            return oriented_size((image.height, image.width), _orientation(file, image))


def read_picture(source: ImageSource, sixteen_bit_white: int | None = None) -> GrayLevels:
    """Decode a picture to upright gray levels.

    Args:
        source: A PNG, JPEG, TIFF or BMP file, or its content.
        sixteen_bit_white: White of 16-bit files; None for 65535, if the values leave no doubt.

    Returns:
        The gray levels and white.

    Raises:
        RadiographError: The file cannot be read, has several frames, has values outside its range, or was written by
            this package, as heatmaps are.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (32, 16), color=51).save(Path(folder, "chest.png"))
        ...     levels = read_picture(Path(folder, "chest.png"))
        >>> levels.values.shape, levels.white
        ((16, 32), 255.0)
    """
    path = path_of(source)
    with _opened(source) as (file, is_tiff):
        if is_tiff:
            with open_tiff(path, file) as page:
                samples, orientation = tiff_samples(page), tiff_orientation(page)
        else:
            with Image.open(file, formats=PILLOW_FORMATS) as image:
                refuse_written(path, image.info)
                _check_single(path, image)
                orientation = _orientation(file, image)
                samples = _samples(file, image)
        levels = to_levels(path, samples, sixteen_bit_white)
    return GrayLevels(oriented(levels.values, orientation), levels.white)


def verify_picture(source: ImageSource) -> None:
    """Check the checksums of a PNG file; other formats have none.

    Args:
        source: The file, or its content.

    Raises:
        RadiographError: The file is damaged.
    """
    with _opened(source) as (file, is_tiff):
        if not is_tiff:
            with Image.open(file, formats=PILLOW_FORMATS) as image:
                image.verify()


@contextmanager
def _opened(source: ImageSource) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a picture, and tell if it is a TIFF; any exception meanwhile is converted to a `RadiographError`."""
    path = path_of(source)
    try:
        with open_source(source) as file:
            is_tiff = file.read(4) in _TIFF
            file.seek(0)
            yield file, is_tiff
    except (RadiographError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(path, str(error)) from error
    except UnidentifiedImageError as error:
        raise RadiographError(
            path,
            _deep_jpeg(source) or "not an image, or its header is damaged",
            "PNG, JPEG, TIFF, BMP, or DICOM",
            "open it in a viewer, and convert it or leave it out",
        ) from error
    except Exception as error:  # Pillow's and tifffile's readers raise OSError, SyntaxError, struct.error and more
        raise RadiographError(
            path,
            f"truncated or damaged: {str(error)[:_MAX_MESSAGE] or type(error).__name__}",
            "a complete image file",
            "copy or download the file again",
        ) from error


def _deep_jpeg(source: ImageSource) -> str:
    """Return what keeps Pillow from opening a whole JPEG file; an empty text if it is none."""
    with open_source(source) as file:
        head = file.read(_JPEG_HEAD)
    if not head.startswith(b"\xff\xd8"):
        return ""
    try:
        bits = jpeg_frame(head)[1]
    except (ValueError, struct.error):
        return ""
    return f"JPEG of {bits} bits, which is not supported outside of DICOM" if bits > 8 else ""  # noqa: PLR2004


def _check_single(path: Path, image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise RadiographError(path, f"{frames} frames", "a single image", "save the radiograph on its own")


def _samples(file: BinaryIO, image: Image.Image) -> Samples:
    if _is_deep_color(file):
        file.seek(0)
        return _split(imagecodecs.png_decode(file.read()), None)
    transparent = image.info.get("transparency")
    if image.mode in _GRAY_MODES and transparent is None:
        return Samples(np.asarray(image), _GRAY_MODES[image.mode])
    if image.mode.startswith("I"):  # one 16-bit value stands for transparent pixels
        values = np.asarray(image)
        return Samples(values, None, (values != transparent).astype(np.uint8) * np.uint8(255))
    if image.mode == "CMYK":
        image = image.convert("RGB")
    color = image.mode not in {"1", "L", "LA"}
    with_alpha = transparent is not None or image.mode in {"LA", "PA", "RGBA"}
    mode = ("RGB" if color else "L") + "A" * with_alpha
    return _split(np.asarray(image if image.mode == mode else image.convert(mode)), 255.0)


def _split(values: npt.NDArray[Any], white: float | None) -> Samples:
    """Return the samples of an array of shape `(H, W)` or `(H, W, C)`, whose last channel may be the opacity."""
    channels = values.shape[2] if values.ndim > 2 else 1  # noqa: PLR2004  # axes
    if channels in {2, 4}:
        gray_or_color = values[..., 0] if channels == 2 else values[..., :3]  # noqa: PLR2004
        return Samples(gray_or_color, white, values[..., -1])
    return Samples(values, white)


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, position and length of the chunks of a PNG file; nothing for other formats."""
    file.seek(0)
    if file.read(8) != _PNG:
        return
    while len(head := file.read(8)) == 8:  # noqa: PLR2004  # bytes of length and name
        length, name = struct.unpack(">I4s", head)
        start = file.tell()
        yield name, start, length
        file.seek(start + length + 4)


def _is_deep_color(file: BinaryIO) -> bool:
    """Return whether a file is a PNG of 16 bits with color or opacity, which Pillow reduces to 8 bits."""
    place = file.tell()
    file.seek(0)
    head = file.read(26)
    file.seek(place)
    return head[:8] == _PNG and head[24] == 16 and head[25] != 0  # noqa: PLR2004  # bit depth and color type


def _orientation(file: BinaryIO, image: Image.Image) -> int:
    """Return the orientation that EXIF or XMP states, 1 without."""
    stated = Image.Image.getexif(image)  # not the method of PNG files, which decodes the pixels first
    if not stated:
        place = file.tell()
        for name, start, length in _png_chunks(file):
            if name == b"eXIf":  # behind the pixels
                file.seek(start)
                stated.load(file.read(length))
        file.seek(place)
    value = stated.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) else 1
