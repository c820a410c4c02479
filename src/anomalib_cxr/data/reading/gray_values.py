"""True gray values of a radiograph for a viewer: up to 16 bits, and the window that the file asks for.

:func:`anomalib_cxr.data.reading.radiograph.read_radiograph` gives the gray in [0, 1] after the window of the file. What
lies outside of that window is lost there; a reader who changes it needs the values before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from .content import FileContent, ImageSource, path_of, read_content
from .dicom import check_xray
from .dicom_file import as_radiograph_error, is_dicom, load_dicom
from .dicom_gray import display_table
from .dicom_pixels import pixel_bits, stored_values
from .gray import SIXTEEN_BITS
from .intensities import image_size
from .picture import read_picture


class Window(NamedTuple):
    """Mapping of stored values to gray, PS3.3 C.11.2; `value * slope + intercept` has the unit of center and width."""

    slope: float
    intercept: float
    function: str
    """`LINEAR`, `LINEAR_EXACT` or `SIGMOID`."""
    center: float
    width: float
    inverted: bool
    """Whether the least value is white (MONOCHROME1)."""


class GrayValues(NamedTuple):
    """Values of a radiograph, and the window that the file asks for."""

    values: npt.NDArray[np.uint16]
    """Values of shape `(H, W)`."""
    window: Window


def read_gray_values(source: ImageSource, sixteen_bit_white: int | None = None) -> GrayValues:
    """Read the values of one radiograph before its window.

    Of a DICOM file they are the stored values, counted from the least one that can be stored; with a modality LUT or a
    VOI LUT they are what the table gives. Padding has the value that is darkest. Of a picture they are its gray levels.
    With the window of the file they become what `read_radiograph` gives.

    Args:
        source: The file, or its content.
        sixteen_bit_white: White of 16-bit PNG and TIFF files, as for `read_radiograph`.

    Returns:
        Values and window.

    Raises:
        RadiographError: The file cannot be read, or is refused by `read_radiograph` for its header.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "chest.png")
        ...     Image.new("L", (32, 16), color=51).save(path)
        ...     values, window = read_gray_values(path)
        >>> values.max(), window.center, window.width
        (np.uint16(51), 127.5, 255.0)
    """
    content = source if isinstance(source, FileContent) else read_content(source)
    image_size(content)  # checks the size before anything is decoded
    if not is_dicom(content):
        levels = read_picture(content, sixteen_bit_white)
        return _levels(levels.values, levels.white)
    path = path_of(content)
    with as_radiograph_error(path, "not readable as DICOM"):
        dataset = load_dicom(content)
        check_xray(path, dataset)
        return _dicom_values(path, dataset)


def _levels(values: npt.NDArray[Any], white: float) -> GrayValues:
    if np.issubdtype(values.dtype, np.integer):
        return GrayValues(values.astype(np.uint16), Window(1.0, 0.0, "LINEAR_EXACT", white / 2, white, False))
    scaled = np.rint(values * (SIXTEEN_BITS / white)).astype(np.uint16)
    return GrayValues(scaled, Window(white / SIXTEEN_BITS, 0.0, "LINEAR_EXACT", white / 2, white, False))


def _dicom_values(path: Path, dataset: Dataset) -> GrayValues:
    bits = pixel_bits(path, dataset)
    table = display_table(path, dataset, bits)
    stored = stored_values(path, dataset, bits)
    values = table.values[stored.astype(np.int32) - bits.lowest]
    return GrayValues(values, Window(*table[1:]))
