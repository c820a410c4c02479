"""Stored values of a DICOM image, checked against what the header says of their bits (PS3.5 8.1.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from anomalib_cxr.errors import RadiographError

from .dicom_codecs import decode_frame, is_lossy, missing_codec
from .dicom_file import as_radiograph_error
from .dicom_text import statement, tag_text

MAX_BITS = 16  # stored; detectors have 10 to 16

_ALLOCATED = (8, 16, 32)
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_OVERSHOOT = 1 / 16  # of the range: what a lossy compression may add at a sharp edge


class Bits(NamedTuple):
    """Bits of a stored value."""

    allocated: int
    """Bits Allocated (0028,0100)."""
    stored: int
    """Bits Stored (0028,0101)."""
    shift: int
    """Unused bits below the stored ones, from High Bit (0028,0102)."""
    signed: bool
    """Whether Pixel Representation (0028,0103) is two's complement."""

    @property
    def lowest(self) -> int:
        """Least value that can be stored."""
        return -(1 << (self.stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Greatest value that can be stored."""
        return self.lowest + (1 << self.stored) - 1


def pixel_bits(path: Path, dataset: Dataset) -> Bits:
    """Return the bits of a stored value, checked against each other.

    Args:
        path: The file that an error names.
        dataset: A dataset with Bits Allocated, Bits Stored and Pixel Representation.

    Returns:
        The bits.

    Raises:
        RadiographError: They contradict each other, or are more than a radiograph has.
    """
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = dataset.get("HighBit")
    high = stored - 1 if high is None else int(high)
    for keyword, value, accepted, expected in (
        ("BitsAllocated", allocated, allocated in _ALLOCATED, "8, 16 or 32"),
        ("BitsStored", stored, 1 <= stored <= min(allocated, MAX_BITS), f"1 to {min(allocated, MAX_BITS)}"),
        ("HighBit", high, stored - 1 <= high < allocated, f"{stored - 1}, one less than Bits Stored"),
        ("SamplesPerPixel", channels := dataset.get("SamplesPerPixel") or 1, channels == 1, "1, for gray"),
    ):
        if not accepted:
            raise RadiographError(path, statement(keyword, value), expected, "export the radiograph again")
    return Bits(allocated, stored, high + 1 - stored, dataset.PixelRepresentation == 1)


def transfer_syntax(path: Path, dataset: Dataset) -> UID:
    """Return the transfer syntax; of an old file without any, that by which its header was read.

    Args:
        path: The file that an error names.
        dataset: The dataset.

    Returns:
        The transfer syntax.

    Raises:
        RadiographError: It is not stated, and the pixels are compressed.
    """
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    if syntax:
        return UID(syntax)
    if dataset["PixelData"].is_undefined_length:
        raise RadiographError(
            path,
            f"{tag_text('TransferSyntaxUID')} is missing, and the pixels are compressed",
            "a stated compression",
            "export the file again",
        )
    implicit, little_endian = dataset.original_encoding
    if not little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def stored_values(path: Path, dataset: Dataset, bits: Bits) -> npt.NDArray[Any]:
    """Decode the stored values.

    Args:
        path: The file that an error names.
        dataset: A dataset with the pixel data of one gray image.
        bits: Bits of a stored value.

    Returns:
        Values of shape `(H, W)` within the range of the stored bits, int16 or uint16. Overlays, which the standard once
        allowed in unused bits, are removed.

    Raises:
        RadiographError: The pixels are truncated, damaged, of a compression that cannot be decoded here, or beyond the
            range of the stored bits.
    """
    syntax = transfer_syntax(path, dataset)
    if not syntax.is_encapsulated:
        raw = _native(path, dataset, bits, little_endian=syntax.is_little_endian)
    else:
        _check_codec(path, syntax)
        with as_radiograph_error(path, f"{tag_text('PixelData')} truncated or damaged"):
            raw = decode_frame(dataset, syntax)
        if bits.shift:
            raise RadiographError(
                path,
                f"{statement('HighBit', dataset.HighBit)} of compressed pixels",
                f"{bits.stored - 1}, one less than Bits Stored",
                "export the file uncompressed",
            )
    lossy = is_lossy(syntax) or dataset.get("LossyImageCompression") == "01"  # once, and unpacked since
    return _in_range(path, raw, bits, lossy=lossy, overlays=_has_embedded_overlays(dataset))


def _native(path: Path, dataset: Dataset, bits: Bits, *, little_endian: bool) -> npt.NDArray[Any]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    data, needed = dataset.PixelData, rows * columns * bits.allocated // 8
    if not needed <= len(data) < 2 * needed:
        raise RadiographError(
            path,
            f"{tag_text('PixelData')} {'truncated' if len(data) < needed else 'too long'}: {len(data):,} bytes",
            f"{needed:,} bytes, a single image of {rows} x {columns}",
            "copy or export the file again",
        )
    word = np.dtype(f"{'<' if little_endian else '>'}u{bits.allocated // 8}")
    if bits.allocated == 8 and not little_endian and dataset["PixelData"].VR == "OW":  # noqa: PLR2004  # two in a word
        return np.frombuffer(data, ">u2").astype("<u2").view("u1")[: rows * columns].reshape(rows, columns)
    return np.frombuffer(data, word, rows * columns).reshape(rows, columns)


def _check_codec(path: Path, syntax: UID) -> None:
    codec = missing_codec(syntax)
    if codec is not None:
        raise RadiographError(
            path,
            f"{tag_text('TransferSyntaxUID')} = {syntax.name} ({syntax}), which cannot be decoded here",
            f"an installation of imagecodecs with {codec}"
            if codec
            else "uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000",
            "pip install --upgrade imagecodecs, or export the file uncompressed"
            if codec
            else "export the file uncompressed",
        )


def _has_embedded_overlays(dataset: Dataset) -> bool:
    positions = (dataset.get((group, 0x0102)) for group in _OVERLAY_GROUPS)  # Overlay Bit Position
    return any(position is not None and position.value for position in positions)


def _in_range(path: Path, raw: npt.NDArray[Any], bits: Bits, *, lossy: bool, overlays: bool) -> npt.NDArray[Any]:
    """Return the values of the stored bits; bits above may repeat the sign or hold overlays, else they are told."""
    if lossy:
        raw = _without_overshoot(raw, bits)
    width, mask = 8 * raw.dtype.itemsize - bits.shift, 2**bits.stored - 1
    words = raw.astype(f"u{raw.dtype.itemsize}", copy=False)
    if bits.shift:  # each step is a copy, of an original 40 MB
        words = words >> bits.shift
    if overlays:
        words = words & mask
    if words.max() > mask:
        _refuse_beyond(path, words, bits, 2**width + bits.lowest)
    values = words.astype(np.uint16, copy=False)
    if not bits.signed:
        return values
    unused = MAX_BITS - bits.stored
    return (values << unused).view(np.int16) >> unused


def _refuse_beyond(path: Path, words: npt.NDArray[Any], bits: Bits, least_negative: int) -> None:
    """Refuse words beyond the stored bits, unless they repeat the sign."""
    beyond = words > 2**bits.stored - 1
    if bits.signed:
        beyond &= words < least_negative
    if beyond.any():
        raise RadiographError(
            path,
            f"stored values up to {words[beyond].max()}, but {statement('BitsStored', bits.stored)}",
            f"values from {bits.lowest} to {bits.highest}",
            "correct Bits Stored, or export the file again",
        )


def _without_overshoot(raw: npt.NDArray[Any], bits: Bits) -> npt.NDArray[Any]:
    """Clip the little that a lossy compression adds at sharp edges; values far beyond the range are left to be told."""
    low, high = (bits.lowest, bits.highest) if raw.dtype.kind == "i" else (0, 2**bits.stored - 1)
    margin = 2**bits.stored * _OVERSHOOT
    clipped = raw.min() >= low - margin and raw.max() <= high + margin
    return np.clip(raw, low, high) if clipped else raw
