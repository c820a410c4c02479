"""Gray of each stored value of a DICOM image: the gray-scale pipeline of PS3.3 C.11 as one table.

Stored values have at most 16 bits, so the pipeline is computed for each possible value once, in double precision, and
not for each pixel.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_windowing

from anomalib_cxr.errors import RadiographError

from .dicom_pixels import MAX_BITS, Bits
from .dicom_text import statement, tag_text

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_Numbers = npt.NDArray[np.float64]


class _Range(NamedTuple):
    """Values of a stage of the pipeline for all stored values, and the least and greatest that it can have."""

    values: _Numbers
    low: float
    high: float


class DisplayTable(NamedTuple):
    """Value of each stored value before the window, and the window; see `gray_values.Window`."""

    values: npt.NDArray[np.uint16]
    slope: float
    intercept: float
    function: str
    center: float
    width: float
    inverted: bool


def display_table(path: Path, dataset: Dataset, bits: Bits) -> DisplayTable:
    """Return the values that a viewer windows; with the window they become the gray of :func:`gray_table`.

    Args:
        path: The file that an error names.
        dataset: A dataset of a gray image.
        bits: Bits of its stored values.

    Raises:
        RadiographError: A tag of the pipeline has a value that the standard does not allow.
    """
    stored = np.arange(bits.lowest, bits.highest + 1, dtype=np.float64)
    modality = _apply_modality(path, dataset, bits, stored)
    slope, intercept, low, high = 1.0, 0.0, modality.low, modality.high
    center, width = _number(path, dataset, "WindowCenter"), _number(path, dataset, "WindowWidth")
    if tables := dataset.get("VOILUTSequence"):
        values, high = apply_lut(path, tables[0], modality.values, signed=modality.low < 0)
        low, center = 0.0, None
    elif dataset.get("ModalityLUTSequence"):
        values = modality.values
    else:
        values = stored - bits.lowest
        slope, intercept = float(modality.values[1] - modality.values[0]), float(modality.values[0])
    if center is None or width is None:
        function, center, width = "LINEAR_EXACT", (low + high) / 2, high - low
    else:
        function = _voi_function(path, dataset)
    inverted = dataset.PhotometricInterpretation.strip().upper() == "MONOCHROME1"
    gray = _apply_voi(path, dataset, modality)
    values[_is_padding(dataset, bits, stored)] = values[np.argmax(gray) if inverted else np.argmin(gray)]
    return DisplayTable(values.astype(np.uint16), slope, intercept, function, center, width, inverted)


def gray_table(path: Path, dataset: Dataset, bits: Bits) -> npt.NDArray[np.float32]:
    """Return the gray of all stored values.

    Padding, which the detector did not measure, is the background, 0: Pixel Padding Value (0028,0120) or the range from
    it to Pixel Padding Range Limit (0028,0121).

    Args:
        path: The file that an error names.
        dataset: A dataset of a gray image.
        bits: Bits of its stored values.

    Returns:
        Gray in [0, 1], dense tissue bright, of the values from `bits.lowest` to `bits.highest`.

    Raises:
        RadiographError: A tag of the pipeline has a value that the standard does not allow.
    """
    stored = np.arange(bits.lowest, bits.highest + 1, dtype=np.float64)
    gray = _apply_voi(path, dataset, _apply_modality(path, dataset, bits, stored))
    if dataset.PhotometricInterpretation.strip().upper() == "MONOCHROME1":
        gray = 1.0 - gray
    gray[_is_padding(dataset, bits, stored)] = 0.0
    return gray.astype(np.float32)


def _is_padding(dataset: Dataset, bits: Bits, stored: _Numbers) -> npt.NDArray[np.bool_]:
    value, limit = (_stored_number(dataset, f"PixelPadding{name}", bits) for name in ("Value", "RangeLimit"))
    if value is None:
        return np.zeros(stored.shape, bool)
    low, high = sorted((value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _stored_number(dataset: Dataset, keyword: str, bits: Bits) -> int | None:
    """Return a tag with the sign of the stored values; writers choose between US and SS carelessly."""
    value = dataset.get(keyword)
    if value in {None, ""}:
        return None
    word = int(value) & 0xFFFF
    return word - 2**MAX_BITS if bits.signed and word >= 2 ** (MAX_BITS - 1) else word


def _number(path: Path, dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric tag; None if it is absent or empty."""
    value = dataset.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    if value in {None, ""}:
        return None
    number = float(value)
    if not math.isfinite(number) or (keyword == "RescaleSlope" and number == 0):
        raise RadiographError(
            path,
            f"{tag_text(keyword)} = {number}",
            "a finite number, and a slope other than 0",
            "correct the tag, or leave the file out",
        )
    return number


def _apply_modality(path: Path, dataset: Dataset, bits: Bits, stored: _Numbers) -> _Range:
    """Return the values after the modality LUT or the rescale."""
    if tables := dataset.get("ModalityLUTSequence"):
        values, top = apply_lut(path, tables[0], stored, signed=bits.signed)
        return _Range(values, 0.0, top)
    slope, intercept = _number(path, dataset, "RescaleSlope"), _number(path, dataset, "RescaleIntercept")
    values = stored * (1.0 if slope is None else slope) + (0.0 if intercept is None else intercept)
    return _Range(values, *sorted((values[0], values[-1])))


def _apply_voi(path: Path, dataset: Dataset, modality: _Range) -> _Numbers:
    """Return the values after the VOI LUT or window, in [0, 1]; without either, the whole range is scaled to it."""
    values, low, high = modality
    if tables := dataset.get("VOILUTSequence"):
        output, top = apply_lut(path, tables[0], values, signed=low < 0)
        return np.clip(output / top, 0.0, 1.0)
    center, width = _number(path, dataset, "WindowCenter"), _number(path, dataset, "WindowWidth")
    if center is None or width is None:
        return np.clip((values - low) / (high - low), 0.0, 1.0)
    # pydicom scales a window to the range of its dataset: one unsigned bit, that is [0, 1].
    window = Dataset()
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 1, 0
    window.WindowCenter, window.WindowWidth = center, width
    window.VOILUTFunction = _voi_function(path, dataset)
    windowed: _Numbers = np.clip(apply_windowing(values, window), 0.0, 1.0)
    return windowed


def _voi_function(path: Path, dataset: Dataset) -> str:
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in _FUNCTIONS:
        raise RadiographError(
            path, statement("VOILUTFunction", function), ", ".join(_FUNCTIONS), "correct the tag, or leave the file out"
        )
    return function


def apply_lut(path: Path, table: Dataset, values: _Numbers, *, signed: bool) -> tuple[_Numbers, float]:
    """Look values up in one table (PS3.3 C.11.1.1).

    pydicom's own function indexes with the dtype of the entries, so a table of 8-bit entries wraps at 256 inputs.

    Args:
        path: The file that an error names.
        table: Item of the sequence.
        values: Input.
        signed: Whether the input may be negative. By the standard, the first value of the descriptor is signed then,
            and else it is not; writers choose between US and SS carelessly.

    Returns:
        Its outputs, and the greatest output that its entries can state.

    Raises:
        RadiographError: The table has fewer entries than its descriptor states.
    """
    entries, first, bits = (int(number) for number in table.LUTDescriptor)
    entries = entries or 2**16
    first &= 0xFFFF
    if signed and first >= 2 ** (MAX_BITS - 1):
        first -= 2**MAX_BITS
    output = _lut_data(table, entries)
    if len(output) < entries or not 1 <= bits <= MAX_BITS:
        raise RadiographError(
            path,
            f"{statement('LUTDescriptor', list(table.LUTDescriptor))}, {len(output)} entries",
            f"{entries} entries of 8 to {MAX_BITS} bits",
            "export the file again",
        )
    if bits == MAX_BITS:  # the width of the words: many writers state it for entries of 10 or 12 bits
        bits = max(int(output.max()).bit_length(), 1)
    index = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    return output[index].astype(np.float64), float(2**bits - 1)


def _lut_data(table: Dataset, entries: int) -> npt.NDArray[Any]:
    data = table.LUTData
    if isinstance(data, bytes):  # OW: words, or 8-bit entries packed two in a word
        word = "<u2" if table.original_encoding[1] else ">u2"
        data = np.frombuffer(data, word if len(data) >= 2 * entries else "u1")
    return np.atleast_1d(np.asarray(data))[:entries].astype(np.int64) & 0xFFFF  # SS for US
