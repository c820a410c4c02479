"""Reader of frontal radiographs in DICOM files.

pydicom decodes the pixels and applies the window. The gray-scale pipeline is that of the DICOM standard, PS3.3 C.11:
stored values -> modality LUT or rescale -> VOI LUT or window -> polarity of the photometric interpretation.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_windowing
from pydicom.uid import UID

from anomalib_cxr.errors import RadiographError

from .content import ImageSource, path_of
from .dicom_file import as_radiograph_error, load_dicom
from .subject import check_subject, statement, tag_text

_GRAY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_REQUIRED = ("Rows", "Columns", "BitsStored", "PixelRepresentation", "PhotometricInterpretation", "PixelData")


def read_dicom(source: ImageSource) -> torch.Tensor:
    """Read one frontal radiograph from a DICOM file.

    The interval [0, 1] corresponds to the first of these that the file has; values outside are clipped:

    1. the output range of the first table of VOI LUT Sequence (0028,3010),
    2. the first window of Window Center (0028,1050) and Window Width (0028,1051), by its VOI LUT Function (0028,1056),
    3. the range of Bits Stored (0028,0101), after the modality LUT or the rescale. Minimum and maximum of the image
       would use the scale better, but then one metal marker changes the gray of the lungs, and two images of one
       detector are no longer comparable.

    MONOCHROME1, where the smallest value is white, is inverted. Color is refused, even if all pixels are gray: windows
    are not defined for it, and a radiograph in color is a screenshot or a photograph of one.

    Args:
        source: A DICOM file with its preamble, or its content.

    Returns:
        Image of shape ``(1, H, W)``, float32 in [0, 1], dense tissue bright.

    Raises:
        RadiographError: The file is not readable, not grayscale, or by its header not one upright frontal chest X-ray
            (:func:`anomalib_cxr.data.reading.subject.check_subject`); the reason names the tag.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom.data import get_testdata_file
        >>> dataset = load_dicom(Path(get_testdata_file("CT_small.dcm")))
        >>> dataset.Modality = "DX"
        >>> with TemporaryDirectory() as folder:
        ...     dataset.save_as(Path(folder, "chest.dcm"))
        ...     read_dicom(Path(folder, "chest.dcm")).shape
        torch.Size([1, 128, 128])
    """
    path = path_of(source)
    with as_radiograph_error(path, "not readable as DICOM"):
        dataset = load_dicom(source)
        check_subject(path, dataset)
        _check_decodable(path, dataset)
        gray = _apply_voi(path, dataset, *_apply_modality(path, dataset, _stored_values(path, dataset)))
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            gray = 1.0 - gray
        return torch.from_numpy(gray.astype(np.float32))[None]  # (1, H, W)


def dicom_size(source: ImageSource) -> tuple[int, int]:
    """Return height and width of the image in a DICOM file, from its header only.

    Args:
        source: A DICOM file with its preamble, or its content.

    Returns:
        ``(H, W)`` in pixels.

    Raises:
        RadiographError: The header is damaged, or has no Rows or Columns.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> dicom_size(get_testdata_file("CT_small.dcm"))
        (128, 128)
    """
    path = path_of(source)
    with as_radiograph_error(path, "not readable as DICOM"):
        header = load_dicom(source, ["Rows", "Columns"])
        _check_present(path, header, ("Rows", "Columns"))
        return int(header.Rows), int(header.Columns)


def _text(value: object) -> str:
    return "" if value is None else str(value).strip().upper()


def _check_present(path: Path, dataset: Dataset, keywords: tuple[str, ...]) -> None:
    missing = [tag_text(keyword) for keyword in keywords if dataset.get(keyword) in (None, "", b"")]
    if missing:
        raise RadiographError(
            path,
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            "a DICOM image with a complete pixel module",
            "export the file again, or leave it out if it holds no image",
        )


def _check_decodable(path: Path, dataset: Dataset) -> None:
    _check_present(path, dataset, _REQUIRED)
    photometric = _text(dataset.PhotometricInterpretation)
    if photometric not in _GRAY:
        raise RadiographError(
            path,
            statement("PhotometricInterpretation", photometric),
            "MONOCHROME1 or MONOCHROME2",
            "export the original radiograph instead of a color copy",
        )
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        _check_present(path, dataset.file_meta, ("TransferSyntaxUID",))
    if not _has_decoder(syntax):
        raise RadiographError(
            path,
            f"{tag_text('TransferSyntaxUID')} = {syntax.name} ({syntax}), which cannot be decoded here",
            "a transfer syntax that the installed pydicom has a decoder for",
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or export the file uncompressed",
        )


def _has_decoder(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:  # not a syntax of still images, or a private one
        return False


def _stored_values(path: Path, dataset: Dataset) -> npt.NDArray[Any]:
    with as_radiograph_error(path, f"{tag_text('PixelData')} truncated, damaged or not to be decoded"):
        stored = dataset.pixel_array
    if stored.shape != (dataset.Rows, dataset.Columns):  # pydicom takes surplus pixels for further frames
        raise RadiographError(
            path,
            f"{tag_text('PixelData')} of shape {stored.shape}",
            f"a single image of {dataset.Rows} x {dataset.Columns}",
            "export the radiograph on its own",
        )
    return stored  # (H, W)


def _number(path: Path, dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric tag; None if it is absent or empty."""
    value = dataset.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    if value in (None, ""):
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


def _apply_modality(
    path: Path,
    dataset: Dataset,
    stored: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], float, float]:
    """Return the values after the modality LUT or rescale, and their possible minimum and maximum."""
    if tables := dataset.get("ModalityLUTSequence"):
        values, top = _apply_lut(tables[0], stored)
        return values, 0.0, top
    slope, intercept = _number(path, dataset, "RescaleSlope"), _number(path, dataset, "RescaleIntercept")
    if slope is None or intercept is None:  # PS3.3 has both or neither
        slope, intercept = 1.0, 0.0
    levels = 2 ** int(dataset.BitsStored)
    lowest = -levels // 2 if dataset.PixelRepresentation == 1 else 0
    bounds = sorted(slope * bound + intercept for bound in (lowest, lowest + levels - 1))
    return stored * slope + intercept, bounds[0], bounds[1]


def _apply_voi(
    path: Path,
    dataset: Dataset,
    values: npt.NDArray[Any],
    low: float,
    high: float,
) -> npt.NDArray[np.floating[Any]]:
    """Return the values after the VOI LUT or window, in [0, 1]; without either, [low, high] is scaled to it."""
    if tables := dataset.get("VOILUTSequence"):
        output, top = _apply_lut(tables[0], values)
        return output / top
    center, width = _number(path, dataset, "WindowCenter"), _number(path, dataset, "WindowWidth")
    if center is None or width is None:
        return np.clip((values - low) / (high - low), 0.0, 1.0)
    # pydicom scales a window to the range of its dataset: one unsigned bit, that is [0, 1].
    window = Dataset()
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 1, 0
    window.WindowCenter, window.WindowWidth = center, width
    window.VOILUTFunction = _text(dataset.get("VOILUTFunction")) or "LINEAR"
    windowed: npt.NDArray[np.floating[Any]] = np.clip(apply_windowing(values, window), 0.0, 1.0)
    return windowed


def _apply_lut(table: Dataset, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
    """Return the values after one lookup table (PS3.3 C.11.1.1), and the greatest output that its bits can hold.

    pydicom's own function indexes with the dtype of the entries, so a table of 8-bit entries wraps at 256 inputs.
    """
    entries, first, bits = table.LUTDescriptor
    entries = entries or 2**16
    data = table.LUTData
    if isinstance(data, bytes):  # OW: words, or 8-bit entries packed two in a word
        word = "<u2" if table.original_encoding[1] else ">u2"
        data = np.frombuffer(data, word if len(data) >= 2 * entries else "u1")
    output = np.atleast_1d(np.asarray(data))[:entries]
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(output) - 1)
    return output[index], float(2**bits - 1)
