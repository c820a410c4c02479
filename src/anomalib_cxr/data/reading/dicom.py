"""Reader of frontal radiographs in DICOM files.

The gray-scale pipeline is that of the DICOM standard, PS3.3 C.11:
stored values -> modality LUT or rescale -> VOI LUT or window -> polarity of the photometric interpretation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from anomalib_cxr.errors import RadiographError

from .content import ImageSource, path_of
from .dicom_file import as_radiograph_error, load_dicom
from .dicom_gray import gray_table
from .dicom_pixels import pixel_bits, stored_values
from .dicom_text import statement, tag_text
from .subject import check_subject

_GRAY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_REQUIRED = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"),
    "PixelData",
)
_ROWS = 16  # of an image, that are looked up at once
_POLARITY = ("PhotometricInterpretation", "PresentationLUTShape")


def read_dicom(source: ImageSource) -> npt.NDArray[np.float32]:
    """Read one frontal radiograph from a DICOM file.

    The interval [0, 1] corresponds to the first of these that the file has; values outside are clipped:

    1. the output range of the first table of VOI LUT Sequence (0028,3010),
    2. the first window of Window Center (0028,1050) and Window Width (0028,1051), by its VOI LUT Function (0028,1056),
    3. the output range of the modality LUT, or that of Bits Stored (0028,0101) after the rescale. Minimum and maximum
       of the image would use the scale better, but then one metal marker changes the gray of the lungs, and two images
       of one detector are no longer comparable.

    The output range of a table that states 16 bits, the width of its words, is that of the bits that its entries use.
    MONOCHROME1, where the smallest value is white, is inverted. Padding (0028,0120), (0028,0121) becomes 0, background.
    Color is refused, even if all pixels are gray: windows are not defined for it, and a radiograph in color is a
    screenshot or a photograph of one.

    Stored values may have up to 16 bits, signed or not, right- or left-justified by High Bit (0028,0102); values beyond
    Bits Stored are refused. Pixels may be compressed by RLE, JPEG, JPEG-LS or JPEG 2000.

    Args:
        source: A DICOM file, or its content.

    Returns:
        Array of shape ``(H, W)``, float32 in [0, 1], dense tissue bright.

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
        (128, 128)
    """
    path = path_of(source)
    with as_radiograph_error(path, "not readable as DICOM"):
        dataset = load_dicom(source)
        check_xray(path, dataset)
        bits = pixel_bits(path, dataset)
        table = gray_table(path, dataset, bits)
        stored = stored_values(path, dataset, bits)
        gray = _look_up(table, stored, bits.lowest)
        low, high = int(stored.min()), int(stored.max())
        # Where the grays of these two differ, as of nearly every image, not all need to be compared.
        if low != high and table[low - bits.lowest] == table[high - bits.lowest] and gray.min() == gray.max():
            raise RadiographError(
                path,
                f"nothing to see: all stored values from {low} to {high} have one gray",
                "a window, table or padding value that fits the pixels",
                "export the radiograph again",
            )
        return gray


def _look_up(table: npt.NDArray[np.float32], stored: npt.NDArray[Any], lowest: int) -> npt.NDArray[np.float32]:
    """Return the gray of each stored value, `(H, W)`, computed in parts that stay in the processor's cache."""
    gray = np.empty(stored.shape, np.float32)
    for start in range(0, len(stored), _ROWS):
        rows = slice(start, start + _ROWS)
        place = stored[rows].astype(np.int32) - lowest if lowest else stored[rows]
        table.take(place, out=gray[rows], mode="clip")  # the default mode looks up into a copy; all are in the table
    return gray


def dicom_size(source: ImageSource) -> tuple[int, int]:
    """Return height and width of the image in a DICOM file, from its header only.

    Args:
        source: A DICOM file, or its content.

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


def _check_present(path: Path, dataset: Dataset, keywords: tuple[str, ...]) -> None:
    missing = [tag_text(keyword) for keyword in keywords if dataset.get(keyword) in (None, "", b"")]
    if missing:
        raise RadiographError(
            path,
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            "a DICOM image with a complete pixel module",
            "export the file again, or leave it out if it holds no image",
        )


def check_xray(path: Path, dataset: Dataset) -> None:
    """Refuse a file that by its header is not one upright frontal chest X-ray in gray.

    Args:
        path: The file, for the error.
        dataset: Its header.

    Raises:
        RadiographError: With the attributes that say so.
    """
    check_subject(path, dataset)
    _check_gray(path, dataset)


def _check_gray(path: Path, dataset: Dataset) -> None:
    _check_present(path, dataset, _REQUIRED)
    photometric, shape = (str(dataset.get(keyword) or "").strip().upper() for keyword in _POLARITY)
    if photometric not in _GRAY:
        raise RadiographError(
            path,
            statement("PhotometricInterpretation", photometric),
            "MONOCHROME1 or MONOCHROME2",
            "export the original radiograph instead of a color copy",
        )
    if (photometric, shape) == ("MONOCHROME2", "INVERSE"):  # the contrary, MONOCHROME1 and IDENTITY, is a habit
        raise RadiographError(
            path,
            " but ".join(statement(*pair) for pair in zip(_POLARITY, (photometric, shape), strict=True)),
            "one statement of which values are dark",
            "correct the wrong tag",
        )
