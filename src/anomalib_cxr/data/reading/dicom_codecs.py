"""Decoding of compressed DICOM frames by imagecodecs, whatever decoders of pydicom are installed besides.

imagecodecs is free software and holds libjpeg-turbo, CharLS and OpenJPEG: JPEG of 8 and 12 bits, lossless JPEG,
JPEG-LS, JPEG 2000 and High-Throughput JPEG 2000.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder

_JPEG, _JPEG_LS, _JPEG_2000 = "JPEG8", "JPEGLS", "JPEG2K"  # names of imagecodecs
_CODECS = {
    uid.JPEGBaseline8Bit: _JPEG,
    uid.JPEGExtended12Bit: _JPEG,
    uid.JPEGLossless: _JPEG,
    uid.JPEGLosslessSV1: _JPEG,
    uid.JPEGLSLossless: _JPEG_LS,
    uid.JPEGLSNearLossless: _JPEG_LS,
    uid.JPEG2000Lossless: _JPEG_2000,
    uid.JPEG2000: _JPEG_2000,
    uid.HTJ2KLossless: _JPEG_2000,
    uid.HTJ2KLosslessRPCL: _JPEG_2000,
    uid.HTJ2K: _JPEG_2000,
}
_UNCOMPRESSED = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
_LOSSY = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K})
# Markers of a frame's size: SOF of JPEG but DHT, JPG and DAC, which lie between them, and of JPEG-LS.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # without a length
_END_OF_IMAGE = b"\xff\xd9"
_PADDING = 64  # bytes behind the end of a frame, at most
_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC and SIZ of JPEG 2000


class FrameSize(NamedTuple):
    """Size of a compressed frame, in pixels, by its own header."""

    rows: int
    columns: int
    channels: int


def is_lossy(syntax: uid.UID) -> bool:
    """Return whether a compression may change the values, and carry them beyond the range that was stored.

    Args:
        syntax: The transfer syntax.

    Returns:
        True for a lossy one.

    Example:
        >>> is_lossy(uid.JPEG2000), is_lossy(uid.JPEG2000Lossless)
        (True, False)
    """
    return syntax in _LOSSY


def decodable_syntaxes() -> list[uid.UID]:
    """Return the transfer syntaxes whose frames can be decoded in this installation.

    Returns:
        The uncompressed ones, little endian first, RLE, and those of the codecs that are installed.

    Example:
        >>> uid.JPEG2000Lossless in decodable_syntaxes(), uid.MPEG2MPML in decodable_syntaxes()
        (True, False)
    """
    compressed = [syntax for syntax in (uid.RLELossless, *_CODECS) if missing_codec(syntax) is None]
    return [*_UNCOMPRESSED, *compressed]


def missing_codec(syntax: uid.UID) -> str | None:
    """Return what a compressed transfer syntax needs and this installation lacks.

    Args:
        syntax: The transfer syntax.

    Returns:
        None if frames can be decoded; the name of the missing codec, or an empty text if there is none.

    Example:
        >>> missing_codec(uid.JPEGLSLossless), missing_codec(uid.MPEG2MPML)
        (None, '')
    """
    if syntax == uid.RLELossless:
        return None
    if syntax not in _CODECS:
        return ""
    codec = _CODECS[syntax]
    return None if getattr(imagecodecs, codec).available else codec


def decode_frame(dataset: Dataset, syntax: uid.UID) -> npt.NDArray[Any]:
    """Decode the first frame of compressed pixel data.

    Args:
        dataset: Dataset with the pixel data of one image.
        syntax: Its transfer syntax, for which no codec is missing.

    Returns:
        Values as they are coded, of shape `(H, W)`.

    Raises:
        ValueError: The frame has another size or color, or is damaged. It is not decoded if its header has another
            size, so that the memory needed is bounded.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if syntax == uid.RLELossless:
        return get_decoder(syntax).as_array(dataset, raw=True, index=0, decoding_plugin="pydicom")[0]
    coded = get_frame(dataset.PixelData, 0, number_of_frames=1)
    codec = _CODECS[syntax]
    frame = _jpeg_2000_frame(coded) if codec == _JPEG_2000 else jpeg_frame(coded)[0]
    if frame != (rows, columns, 1):
        raise ValueError(
            f"frame of {frame.rows} x {frame.columns} x {frame.channels} in place of {rows} x {columns} x 1"
        )
    # libjpeg would fill the rest with gray, CharLS take seconds
    if codec != _JPEG_2000 and _END_OF_IMAGE not in coded[-_PADDING:]:
        raise ValueError("the end of the frame is missing")
    return np.asarray(getattr(imagecodecs, f"{codec.lower()}_decode")(coded)).reshape(rows, columns)


def jpeg_frame(coded: bytes) -> tuple[FrameSize, int]:
    """Read the header of a JPEG or JPEG-LS frame.

    Args:
        coded: The frame, or its beginning.

    Returns:
        Its size, and the bits of a sample.

    Raises:
        ValueError: There is no such header.
    """
    place = coded.find(b"\xff\xd8") + 2
    while 2 <= place < len(coded) - 8:  # noqa: PLR2004  # 2: found
        if coded[place] != 0xFF:  # noqa: PLR2004
            break
        marker = coded[place + 1]
        if marker in _FRAME_MARKERS:
            bits, rows, columns, channels = struct.unpack_from(">BHHB", coded, place + 4)
            return FrameSize(rows, columns, channels), bits
        if marker == 0xFF:  # noqa: PLR2004  # fill byte
            place += 1
        elif marker in _BARE_MARKERS:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", coded, place + 2)[0]
    raise ValueError("no frame header")


def _jpeg_2000_frame(coded: bytes) -> FrameSize:
    place = coded.find(_CODESTREAM)
    if place < 0:
        raise ValueError("no codestream")
    right, bottom, left, top = struct.unpack_from(">4I", coded, place + 8)
    return FrameSize(bottom - top, right - left, struct.unpack_from(">H", coded, place + 40)[0])
