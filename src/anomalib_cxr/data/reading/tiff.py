"""Reader of TIFF files, by tifffile and imagecodecs, which know more layouts than Pillow."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from tifffile import EXTRASAMPLE, PHOTOMETRIC, TiffFile, TiffPage

from anomalib_cxr.errors import RadiographError

from .content import MAX_BYTES
from .gray import SIXTEEN_BITS, Samples

_COLOR = frozenset({PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR})
_READ = frozenset({PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.PALETTE}) | _COLOR
_JPEG = 7
_MAX_CHANNELS = 4
_MAX_PAGES = 16  # examined for the kind of their picture
_MAX_TILE = 2**22  # samples that a tile may have although the image has fewer
_MAX_BITS = 32  # of an integer
_MAX_FLOAT_BITS = 64

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its findings are told by the errors raised


@contextmanager
def open_tiff(path: Path, file: BinaryIO) -> Iterator[TiffPage]:
    """Open the picture of a TIFF file.

    Args:
        path: The file that an error names.
        file: The open file.

    Yields:
        Its page. Previews, pages of reduced resolution, are passed over.

    Raises:
        RadiographError: The file has several pictures, or a kind of pixels that is no gray or RGB.
    """
    with TiffFile(file) as tiff:
        count = len(tiff.pages)
        pages = (
            [page for page in map(tiff.pages.get, range(count)) if not page.is_reduced] if count <= _MAX_PAGES else []
        )
        if len(pages) != 1:
            raise RadiographError(
                path, f"{len(pages) or count} frames", "a single image", "save the radiograph on its own"
            )
        page = pages[0]
        _check_kind(path, page)
        yield page


def tiff_orientation(page: TiffPage) -> int:
    """Return the value of the tag Orientation, 1 without it.

    Args:
        page: The page.

    Returns:
        A value of TIFF 6.0, or any other that the file states.
    """
    value = page.tags.valueof(274, default=1)
    return int(value) if isinstance(value, int) else 1


def tiff_samples(page: TiffPage) -> Samples:
    """Decode the samples of a page.

    Args:
        page: The page.

    Returns:
        Its samples.

    Raises:
        ValueError: A part of the picture is not in the file.
    """
    if 0 in page.databytecounts or len(page.databytecounts) < math.prod(page.chunked):  # tifffile would fill them
        raise ValueError("strips or tiles are missing")
    values = page.asarray(maxworkers=1)
    if values.dtype == bool:
        values = values.view(np.uint8)
    channels = page.samplesperpixel
    if channels > 1 and page.planarconfig == 2:  # noqa: PLR2004  # planes, one after the other
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, channels)
    n_color = 3 if page.photometric in _COLOR else 1
    alpha = _alpha(page, values, n_color)
    if page.photometric == PHOTOMETRIC.PALETTE:
        return Samples(_colors(page)[values[..., 0]], SIXTEEN_BITS)
    gray_or_color = values[..., :3] if n_color == 3 else values[..., 0]  # noqa: PLR2004  # red, green and blue
    return Samples(gray_or_color, _white(page), alpha, inverted=page.photometric == PHOTOMETRIC.MINISWHITE)


def _check_kind(path: Path, page: TiffPage) -> None:
    numbers = (page.imagelength, page.imagewidth, page.imagedepth, page.samplesperpixel)
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError(f"rows, columns, slices and samples {numbers}")
    bits = _bits(page)
    kind = getattr(page.dtype, "kind", None)
    photometric, channels = page.photometric, page.samplesperpixel
    n_color = 3 if photometric in _COLOR else 1
    for found, accepted, expected in (
        (f"PhotometricInterpretation {_name(photometric)}", photometric in _READ, "gray, RGB or a palette"),
        (
            "YCbCr without JPEG compression",
            photometric != PHOTOMETRIC.YCBCR or page.compression == _JPEG,
            "gray, RGB, or YCbCr compressed as JPEG",
        ),
        (
            f"{channels} samples a pixel",
            n_color <= channels <= _MAX_CHANNELS,
            "1 of gray or 3 of color, and one of opacity at most",
        ),
        (
            f"{bits}-bit samples of type {page.dtype}",
            (kind in {"u", "i", "b"} and bits <= _MAX_BITS) or (kind == "f" and bits <= _MAX_FLOAT_BITS),
            "integers of 1 to 32 bits, or floating-point numbers of 16 to 64 bits",
        ),
        (
            f"tiles of {math.prod(page.chunks):,} samples",
            math.prod(page.chunks) <= max(_MAX_TILE, page.imagelength * page.imagewidth * channels),
            f"tiles no larger than the image or {_MAX_TILE:,} samples",
        ),
        (f"{page.nbytes:,} bytes of samples", page.nbytes <= MAX_BYTES, f"at most {MAX_BYTES:,} bytes"),
        (f"{page.imagedepth} slices", page.imagedepth == 1, "a single image"),
    ):
        if not accepted:
            raise RadiographError(path, f"TIFF with {found}, which is not supported", expected, "save it as a PNG")


def _bits(page: TiffPage) -> int:
    """Return the bits of a sample, the most of any channel."""
    bits = page.bitspersample
    return bits if isinstance(bits, int) else max(bits)


def _name(photometric: object) -> str:
    return str(getattr(photometric, "name", photometric))


def _white(page: TiffPage) -> float | None:
    """Return the greatest value by the file's own statement; None for 16 bits or more, of which any may be in use."""
    if page.dtype is not None and page.dtype.kind == "f":
        return 1.0
    bits = _bits(page)
    return float(2**bits - 1) if bits < 16 else None  # noqa: PLR2004


def _alpha(page: TiffPage, values: npt.NDArray[Any], n_color: int) -> npt.NDArray[Any] | None:
    """Return the opacity; None without any, or where it is applied to the color already (associated alpha)."""
    extra = page.extrasamples[0] if page.extrasamples else None
    if extra == EXTRASAMPLE.UNASSALPHA and values.shape[-1] > n_color:
        return values[..., n_color]
    return None


def _colors(page: TiffPage) -> npt.NDArray[np.uint16]:
    """Return the palette, of shape `(N, 3)`; some writers store 8 bits where TIFF 6.0 has 16."""
    colors: npt.NDArray[np.uint16] = np.array(page.colormap, np.uint16).T
    if colors.max() < 256:  # noqa: PLR2004
        colors *= np.uint16(257)
    return colors
