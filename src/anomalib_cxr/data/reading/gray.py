"""Gray levels from the samples of a picture: range, luminance, polarity, transparency and orientation."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anomalib_cxr.errors import RadiographError

logger = logging.getLogger(__name__)

SIXTEEN_BITS = 65535
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode "L"
_ROWS = 256  # of an image in color, converted at a time: bounds the memory


class GrayLevels(NamedTuple):
    """Gray levels of a picture."""

    values: npt.NDArray[Any]
    """GrayLevels of shape `(H, W)`, from 0, black, to `white`."""
    white: float
    """Level of white."""


class Samples(NamedTuple):
    """Samples of a picture as they are stored, and what the file says about them."""

    values: npt.NDArray[Any]
    """Gray or color, of shape `(H, W)` or `(H, W, 3)`."""
    white: float | None
    """Greatest value; None if they have 16 bits, of which the file does not state how many are in use."""
    alpha: npt.NDArray[Any] | None = None
    """Opacity of shape `(H, W)`, its greatest possible value opaque; None without any, or where it is applied."""
    inverted: bool = False
    """Whether 0 is white."""


def to_levels(path: Path, samples: Samples, sixteen_bit_white: int | None) -> GrayLevels:
    """Convert samples to gray levels; transparent pixels become background, that is black.

    Args:
        path: The file that an error names.
        samples: The samples, overwritten in part.
        sixteen_bit_white: White of 16-bit samples whose file does not state it; None for 65535, if they leave no doubt.

    Returns:
        The gray levels.

    Raises:
        RadiographError: Values are outside the range, all pixels are transparent, or white is neither stated nor
            evident: no value is above half of the range of 16 bits.

    Example:
        >>> values = np.array([[0, 51, 255]], np.uint8)
        >>> to_levels(Path("chest.tif"), Samples(values, 255, inverted=True), None).values
        array([[255, 204,   0]], dtype=uint8)
    """
    values = samples.values
    low, high = values.min(), values.max()  # both are NaN if any value is
    white = _sixteen_bit_white(path, low, high, sixteen_bit_white) if samples.white is None else samples.white
    if not (low >= 0 and high <= white):
        found = "NaN among the values" if np.isnan(low) else f"values from {low} to {high}"
        next_step = "convert the file to 8 bits"
        if samples.white is None and high > white:
            found += f", but sixteen_bit_white = {white}"
            next_step = f"correct sixteen_bit_white, or {next_step}"
        raise RadiographError(path, found, f"values from 0 to {white:g}", next_step)
    gray = _luminance(values) if values.ndim > 2 else values  # noqa: PLR2004  # axes
    if samples.inverted:
        gray = gray.dtype.type(white) - gray
    return GrayLevels(gray if samples.alpha is None else _on_black(path, gray, samples.alpha), white)


def _sixteen_bit_white(path: Path, lowest: float, highest: float, stated: int | None) -> int:
    if stated is not None:
        return stated
    if lowest >= 0 and 0 < highest <= SIXTEEN_BITS // 2:
        bits = max(int(highest).bit_length(), 8)
        raise RadiographError(
            path,
            f"16-bit file with {bits} bits in use, or a dark picture: sixteen_bit_white has to be set",
            "a stated white where 16-bit files leave the bits in use open",
            f"set sixteen_bit_white to {2**bits - 1} for {bits} bits of a detector, or to {SIXTEEN_BITS} for 16",
        )
    _tell_default()
    return SIXTEEN_BITS


@cache
def _tell_default() -> None:
    """Log the default, once in a process."""
    logger.info("16-bit pictures: white is %d, the default; sixteen_bit_white is the setting", SIXTEEN_BITS)


def _luminance(color: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the luminance; of gray stored as color exactly that gray."""
    red = color[..., 0]
    if all(np.array_equal(red, color[..., channel]) for channel in (1, 2)):
        return np.asarray(red)
    gray = np.empty(color.shape[:2], np.float32)
    for start in range(0, len(color), _ROWS):
        gray[start : start + _ROWS] = color[start : start + _ROWS].astype(np.float32) @ _LUMINANCE
    return gray


def _on_black(path: Path, gray: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    lowest = alpha.min()
    if lowest == opaque:
        return gray
    if not alpha.any():
        raise RadiographError(
            path, "every pixel is transparent", "an opaque picture", "save it without transparency (alpha channel)"
        )
    composed: npt.NDArray[np.float32] = np.multiply(gray, alpha, dtype=np.float32) / np.float32(opaque)
    return composed


def oriented(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an image as its tag Orientation (TIFF 6.0, EXIF) tells.

    Args:
        image: Array of shape `(H, W)`.
        orientation: Value of the tag; one that the standard does not define changes nothing.

    Returns:
        View of shape `(H, W)`, or `(W, H)` for the values 5 to 8.

    Example:
        >>> oriented(np.array([[1, 2, 3]]), 6).tolist()
        [[1], [2], [3]]
    """
    if orientation in {5, 6, 7, 8}:
        image = image.T
    down, right = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return image[::down, ::right]


def oriented_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return height and width after :func:`oriented`.

    Args:
        size: Stored height and width.
        orientation: Value of the tag.

    Returns:
        Height and width of the upright image.

    Example:
        >>> oriented_size((32, 16), 6)
        (16, 32)
    """
    return size[::-1] if orientation in {5, 6, 7, 8} else size
